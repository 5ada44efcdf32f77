//! Tests of adoption: the server outlives its daemon, and the next daemon adopts it.

use std::time::Duration;

use nix::sys::signal::Signal;
use pgdibs_embedded::Progress;
use sqlx::Connection;

use crate::setup::{Setup, connect, execute, text};
use pgdibs_testing::process::signal;
use pgdibs_testing::wait::until_async;

#[tokio::test]
async fn start_adopts_server_and_sessions_of_killed_daemon() {
    let setup = Setup::new();
    let mut daemon = setup.daemon();
    daemon.wait_for_line("serving");
    let postmaster = setup.postmaster_pid();
    daemon.signal(Signal::SIGKILL);

    let server = setup.start().await;
    assert!(server.adopted());
    assert!(setup.stages().contains(&Progress::Adopted), "{:?}", setup.stages());
    assert_eq!(setup.postmaster_pid(), postmaster);
    let mut session = connect(&server).await;
    sqlx::raw_sql("create temporary table mine as select 7 as seven").execute(&mut session).await.unwrap();
    // To the supervisor, a drop is the daemon's death.
    drop(server);
    let server = setup.start().await;
    assert!(server.adopted());
    let seven: i32 = sqlx::query_scalar("select seven from mine").fetch_one(&mut session).await.unwrap();
    assert_eq!((seven, setup.postmaster_pid()), (7, postmaster));
    session.close().await.unwrap();
    assert!(server.bin_dir().join("postgres").is_file());
    assert_eq!(text(&server, "show server_version").await.split('.').next(), Some(server.major().to_string().as_str()));
    server.stop().await.unwrap();
    setup.until_nothing_runs().await;
}

#[tokio::test]
async fn keep_leaves_server_running_and_stop_ends_it() {
    let setup = Setup::new();
    let server = setup.start().await;
    execute(&server, "create table kept as select 1").await;
    let postmaster = setup.postmaster_pid();
    server.keep().await.unwrap();
    let server = setup.start().await;
    assert_eq!((server.adopted(), setup.postmaster_pid()), (true, postmaster));
    assert_eq!(text(&server, "select count(*)::text from kept").await, "1");
    server.stop().await.unwrap();
    assert_eq!(setup.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn start_waits_for_server_that_is_stopping() {
    let mut setup = Setup::new();
    setup.linger = Duration::ZERO;
    let server = setup.start().await;
    execute(&server, "create table kept as select 1").await;
    let mut server = server;
    for _ in 0..5 {
        drop(server);
        server = setup.start().await;
    }
    assert_eq!(text(&server, "select count(*)::text from kept").await, "1");
    server.stop().await.unwrap();
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[tokio::test]
    async fn ctrl_c_in_terminal_does_not_reach_postgres() {
        let setup = Setup::new();
        let mut daemon = setup.daemon();
        daemon.wait_for_line("serving");
        let postmaster = setup.postmaster_pid();
        daemon.interrupt_group();
        let server = setup.start().await;
        assert_eq!((server.adopted(), setup.postmaster_pid()), (true, postmaster));
        server.stop().await.unwrap();
    }

    #[tokio::test]
    async fn supervisor_stops_server_after_linger() {
        let mut setup = Setup::new();
        setup.linger = Duration::from_secs(1);
        let server = setup.start().await;
        execute(&server, "create table kept as select 'still here' as words").await;
        let before = std::time::Instant::now();
        drop(server);
        setup.until_nothing_runs().await;
        assert!(before.elapsed() >= setup.linger, "it stopped after {:?}", before.elapsed());
        assert!(!setup.data_dir.join("running-since-boot").exists());
        let server = setup.start().await;
        assert!(!server.adopted());
        assert_eq!(text(&server, "select words from kept").await, "still here");
        server.stop().await.unwrap();
    }

    #[tokio::test]
    async fn adopting_daemon_sets_its_own_linger() {
        let mut setup = Setup::new();
        drop(setup.start().await);
        setup.linger = Duration::from_millis(300);
        let server = setup.start().await;
        assert!(server.adopted());
        drop(server);
        setup.until_nothing_runs().await;
    }

    #[tokio::test]
    async fn server_outlives_linger_while_daemon_is_attached() {
        let mut setup = Setup::new();
        setup.linger = Duration::from_secs(3);
        drop(setup.start().await);
        let server = setup.start().await;
        assert!(server.adopted());
        let postmaster = setup.postmaster_pid();
        // The supervisor had set a time to stop when the first daemon was dropped; the test waits until that has passed.
        let waited = tokio::time::timeout(setup.linger + Duration::from_millis(500), server.exited()).await;
        assert!(waited.is_err() && server.is_running(), "the server stopped although a daemon is attached");
        assert_eq!(setup.postmaster_pid(), postmaster);
        server.stop().await.unwrap();
    }

    #[tokio::test]
    async fn supervisor_stops_postgres_on_sigterm() {
        let setup = Setup::new();
        let server = setup.start().await;
        signal(setup.supervisor_pid(), Signal::SIGTERM);
        server.exited().await;
        until_async("the daemon notices the exit of the server", async || {
            if server.is_running() { Err("running".to_owned()) } else { Ok(()) }
        })
        .await;
        setup.until_nothing_runs().await;
        assert!(!setup.data_dir.join("running-since-boot").exists());
        drop(server);
        setup.start().await.stop().await.unwrap();
    }
}
