//! A server outlives its daemon for a while, and the next daemon takes it over.

use std::time::Duration;

use nix::sys::signal::Signal;
use pgdibs_embedded::{Leave, Progress};
use sqlx::Connection;

use crate::setup::{Setup, connect, execute, signal, text, until};

#[tokio::test]
async fn a_killed_daemons_server_goes_on_and_is_adopted_with_its_sessions() {
    let setup = Setup::new();
    let mut daemon = setup.daemon();
    daemon.says("serving");
    let postmaster = setup.postmaster_pid();
    daemon.signal(Signal::SIGKILL);

    let server = setup.start().await;
    assert!(server.adopted());
    assert!(setup.heard().contains(&Progress::Adopted), "{:?}", setup.heard());
    assert_eq!(setup.postmaster_pid(), postmaster);
    let mut session = connect(&server).await;
    sqlx::raw_sql("create temporary table mine as select 7 as seven").execute(&mut session).await.unwrap();
    // Dropped without a word: to the supervisor, this is a daemon's death as well.
    drop(server);
    let server = setup.start().await;
    assert!(server.adopted());
    let seven: i32 = sqlx::query_scalar("select seven from mine").fetch_one(&mut session).await.unwrap();
    assert_eq!((seven, setup.postmaster_pid()), (7, postmaster));
    session.close().await.unwrap();
    assert!(server.bin_dir().join("postgres").is_file());
    assert_eq!(text(&server, "show server_version").await.split('.').next(), Some(server.major().to_string().as_str()));
    server.leave(Leave::Stop).await.unwrap();
    setup.until_nothing_runs().await;
}

#[tokio::test]
async fn ctrl_c_in_the_terminal_does_not_reach_postgres() {
    let setup = Setup::new();
    let mut daemon = setup.daemon();
    daemon.says("serving");
    let postmaster = setup.postmaster_pid();
    daemon.interrupt_from_the_keyboard();
    let server = setup.start().await;
    assert_eq!((server.adopted(), setup.postmaster_pid()), (true, postmaster));
    server.leave(Leave::Stop).await.unwrap();
}

#[tokio::test]
async fn a_server_left_with_leases_is_kept_and_one_left_without_is_stopped() {
    let setup = Setup::new();
    let server = setup.start().await;
    execute(&server, "create table kept as select 1").await;
    let postmaster = setup.postmaster_pid();
    server.leave(Leave::Keep).await.unwrap();
    let server = setup.start().await;
    assert_eq!((server.adopted(), setup.postmaster_pid()), (true, postmaster));
    assert_eq!(text(&server, "select count(*)::text from kept").await, "1");
    server.leave(Leave::Stop).await.unwrap();
    assert_eq!(setup.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_nobody_adopts_stops_itself_in_order() {
    let mut setup = Setup::new();
    setup.linger = Duration::from_secs(1);
    let server = setup.start().await;
    execute(&server, "create table kept as select 'still here' as words").await;
    let before = std::time::Instant::now();
    drop(server);
    setup.until_nothing_runs().await;
    assert!(before.elapsed() >= setup.linger, "it went after {:?}", before.elapsed());
    assert!(!setup.data_dir.join("running-since-boot").exists());
    let server = setup.start().await;
    assert!(!server.adopted());
    assert_eq!(text(&server, "select words from kept").await, "still here");
    server.leave(Leave::Stop).await.unwrap();
}

#[tokio::test]
async fn an_adopting_daemon_brings_its_own_patience() {
    let mut setup = Setup::new();
    drop(setup.start().await);
    setup.linger = Duration::from_millis(300);
    let server = setup.start().await;
    assert!(server.adopted());
    drop(server);
    setup.until_nothing_runs().await;
}

#[tokio::test]
async fn a_connected_daemon_may_be_silent_for_longer_than_the_linger() {
    let mut setup = Setup::new();
    setup.linger = Duration::from_secs(3);
    drop(setup.start().await);
    let server = setup.start().await;
    assert!(server.adopted());
    let postmaster = setup.postmaster_pid();
    // The adopted server's last hour had been set when its daemon went; that it passes without effect takes its time.
    let waited = tokio::time::timeout(setup.linger + Duration::from_millis(500), server.stopped()).await;
    assert!(waited.is_err() && server.is_running(), "the server ended under a connected daemon");
    assert_eq!(setup.postmaster_pid(), postmaster);
    server.leave(Leave::Stop).await.unwrap();
}

#[tokio::test]
async fn a_start_while_the_last_server_is_stopping_waits_for_its_end() {
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
    server.leave(Leave::Stop).await.unwrap();
}

#[tokio::test]
async fn sigterm_to_the_supervisor_stops_postgres_in_order() {
    let setup = Setup::new();
    let server = setup.start().await;
    signal(setup.supervisor_pid(), Signal::SIGTERM);
    server.stopped().await;
    until("the server is known to be gone", || if server.is_running() { Err("running".to_owned()) } else { Ok(()) })
        .await;
    setup.until_nothing_runs().await;
    assert!(!setup.data_dir.join("running-since-boot").exists());
    drop(server);
    setup.start().await.leave(Leave::Stop).await.unwrap();
}
