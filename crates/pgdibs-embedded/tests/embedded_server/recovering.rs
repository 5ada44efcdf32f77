//! Killed servers, killed supervisors, restarted machines, half-made clusters.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use pgdibs_embedded::{Leave, Progress};

use crate::setup;
use crate::setup::{Setup, connect, execute, signal, text, until};

#[tokio::test]
async fn a_killed_postgres_is_noticed_and_started_again_with_its_data() {
    let setup = Setup::new();
    let server = setup.start().await;
    let url = setup::url(&server);
    execute(&server, "set synchronous_commit = on; create table kept as select 'here' as words").await;
    // A backend that computes does not notice its server's death, and Postgres will not start beside it.
    let mut busy = connect(&server).await;
    let busy = tokio::spawn(async move {
        let query = "select count(*) from generate_series(1, 100000000000) n where n % 2 = 3";
        sqlx::raw_sql(query).execute(&mut busy).await.map(drop)
    });
    until("the busy query runs", || {
        let processes = setup.processes();
        if processes.iter().any(|line| line.contains("SELECT")) { Ok(()) } else { Err(format!("{processes:?}")) }
    })
    .await;
    signal(setup.postmaster_pid(), Signal::SIGKILL);
    server.stopped().await;
    drop(server);
    let server = setup.start().await;
    assert_eq!((server.adopted(), setup::url(&server)), (false, url));
    assert_eq!(text(&server, "select words from kept").await, "here");
    assert!(busy.await.unwrap().is_err());
    assert_eq!(setup.recreated(), None);
    server.leave(Leave::Stop).await.unwrap();
    assert_eq!(setup.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_lost_its_supervisor_gets_a_new_one() {
    let setup = Setup::new();
    let server = setup.start().await;
    execute(&server, "create table kept as select 'here' as words").await;
    let orphan = setup.postmaster_pid();
    signal(setup.supervisor_pid(), Signal::SIGKILL);
    server.stopped().await;
    drop(server);
    let server = setup.start().await;
    assert!(setup.heard().contains(&Progress::OrphanEnded { pid: orphan }), "{:?}", setup.heard());
    assert_eq!(text(&server, "select words from kept").await, "here");
    // And a stop must stop it even then.
    signal(setup.supervisor_pid(), Signal::SIGKILL);
    server.stopped().await;
    server.leave(Leave::Stop).await.unwrap();
    assert_eq!(setup.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn after_an_unclean_stop_only_a_restarted_machine_recreates_the_cluster() {
    let setup = Setup::new();
    let server = setup.start().await;
    let url = setup::url(&server);
    execute(&server, "set synchronous_commit = on; create table kept as select 'here' as words").await;
    kill_everything(&setup).await;
    drop(server);
    let server = setup.start().await;
    assert_eq!(text(&server, "select words from kept").await, "here");
    assert_eq!(setup.recreated(), None);

    kill_everything(&setup).await;
    drop(server);
    std::fs::write(setup.data_dir.join("running-since-boot"), "a boot long ago\n").unwrap();
    let server = setup.start().await;
    let sentence = setup.recreated().unwrap();
    assert!(sentence.contains(&setup.data_dir.display().to_string()) && sentence.contains("fsync"), "{sentence}");
    assert_eq!(text(&server, "select coalesce(to_regclass('kept')::text, 'gone')").await, "gone");
    assert_eq!(setup::url(&server), url);

    // Stopped in order, a restart of the machine is nothing to fear.
    execute(&server, "create table kept as select 1").await;
    server.leave(Leave::Stop).await.unwrap();
    let server = setup.start().await;
    assert_eq!((setup.recreated(), text(&server, "select count(*)::text from kept").await.as_str()), (None, "1"));
    server.leave(Leave::Stop).await.unwrap();
}

/// The supervisor first, so that it writes nothing down about Postgres's death.
async fn kill_everything(setup: &Setup) {
    let postmaster = setup.postmaster_pid();
    signal(setup.supervisor_pid(), Signal::SIGKILL);
    signal(postmaster, Signal::SIGKILL);
    setup.until_nothing_runs().await;
}

#[tokio::test]
async fn an_initdb_cut_short_is_recognised_and_repeated() {
    let setup = Setup::new();
    let mut daemon = setup.daemon();
    daemon.says("Making");
    until("initdb has begun to write", || {
        let names: Vec<_> = std::fs::read_dir(&setup.data_dir).unwrap().flatten().map(|entry| entry.path()).collect();
        let begun = |dir: &std::path::PathBuf| dir.join("PG_VERSION").is_file();
        if names.iter().any(begun) { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    daemon.signal(Signal::SIGKILL);
    assert!(!setup.data_dir.join("pgdata").exists());
    let server = setup.start().await;
    assert!(setup.recreated().unwrap().contains("cut short"), "{:?}", setup.heard());
    assert_eq!(text(&server, "select 'fine'").await, "fine");
    let scraps: Vec<_> = std::fs::read_dir(&setup.data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("new") || name.starts_with("initdb"))
        .collect();
    assert!(scraps.is_empty(), "{scraps:?}");
    server.leave(Leave::Stop).await.unwrap();
}

/// A process that has nothing to do with us. It holds no stream of ours and ends with the test, passed or not.
struct Stranger(Child);

impl Stranger {
    fn of(user: u32) -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").uid(user).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_stale_pid_file_with_a_strangers_number_is_no_obstacle() {
    let setup = Setup::new();
    let server = setup.start().await;
    let stale = setup.read("pgdata/postmaster.pid");
    server.leave(Leave::Stop).await.unwrap();
    // The number must be that of a process that Postgres could have started: another user's does not deter it.
    let owner = std::fs::metadata(setup.data_dir.join("pgdata")).unwrap().uid();
    let mut stranger = Stranger::of(owner);
    let (_, rest) = stale.split_once('\n').unwrap();
    std::fs::write(setup.data_dir.join("pgdata/postmaster.pid"), format!("{}\n{rest}", stranger.0.id())).unwrap();
    let server = setup.start().await;
    assert!(!setup.heard().iter().any(|stage| matches!(stage, Progress::OrphanEnded { .. })), "{:?}", setup.heard());
    assert_eq!(stranger.0.try_wait().unwrap(), None, "a stranger was ended");
    server.leave(Leave::Stop).await.unwrap();
}

#[tokio::test]
async fn a_port_that_was_taken_is_left_only_when_no_lease_can_carry_it() {
    let setup = Setup::new();
    let server = setup.start().await;
    let port = server.port();
    server.leave(Leave::Stop).await.unwrap();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let server = setup.start().await;
    let moved = server.port();
    assert!(setup.heard().contains(&Progress::PortChanged { from: port, to: moved }), "{:?}", setup.heard());
    drop(other);
    kill_everything(&setup).await;
    drop(server);
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, moved)).unwrap();
    let sentence = setup.try_start().await.err().unwrap().to_string();
    assert!(sentence.contains(&moved.to_string()) && sentence.contains("lease"), "{sentence}");
    drop(other);
    let server = setup.start().await;
    assert_eq!(server.port(), moved);
    server.leave(Leave::Stop).await.unwrap();
}
