//! Tests of recovery: killed servers, killed supervisors, restarted machines, incomplete clusters.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use pgdibs_embedded::Progress;

use crate::setup;
use crate::setup::{Setup, connect, execute, text};
use pgdibs_testing::process::signal;
use pgdibs_testing::wait::until_async;

#[tokio::test]
async fn start_after_killed_postgres_keeps_data() {
    let setup = Setup::new();
    let server = setup.start().await;
    let url = setup::url(&server);
    execute(&server, "set synchronous_commit = on; create table kept as select 'here' as words").await;
    // A busy backend does not notice the death of its postmaster, and Postgres does not start beside it.
    let mut busy = connect(&server).await;
    let busy = tokio::spawn(async move {
        let query = "select count(*) from generate_series(1, 100000000000) n where n % 2 = 3";
        sqlx::raw_sql(query).execute(&mut busy).await.map(drop)
    });
    until_async("the busy query runs", async || {
        let processes = setup.processes();
        if processes.iter().any(|line| line.contains("SELECT")) { Ok(()) } else { Err(format!("{processes:?}")) }
    })
    .await;
    signal(setup.postmaster_pid(), Signal::SIGKILL);
    server.exited().await;
    drop(server);
    let server = setup.start().await;
    assert_eq!((server.adopted(), setup::url(&server)), (false, url));
    assert_eq!(text(&server, "select words from kept").await, "here");
    assert!(busy.await.unwrap().is_err());
    assert_eq!(setup.recreated(), None);
    server.stop().await.unwrap();
    assert_eq!(setup.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn start_after_killed_supervisor_stops_orphan() {
    let setup = Setup::new();
    let server = setup.start().await;
    execute(&server, "create table kept as select 'here' as words").await;
    let orphan = setup.postmaster_pid();
    signal(setup.supervisor_pid(), Signal::SIGKILL);
    server.exited().await;
    drop(server);
    let server = setup.start().await;
    assert!(setup.stages().contains(&Progress::OrphanStopped { pid: orphan }), "{:?}", setup.stages());
    assert_eq!(text(&server, "select words from kept").await, "here");
    // `stop` must stop a server without supervisor too.
    signal(setup.supervisor_pid(), Signal::SIGKILL);
    server.exited().await;
    server.stop().await.unwrap();
    assert_eq!(setup.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn cluster_is_recreated_only_after_unclean_reboot() {
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
    let message = setup.recreated().unwrap();
    assert!(message.contains(&setup.data_dir.display().to_string()) && message.contains("fsync"), "{message}");
    assert_eq!(text(&server, "select coalesce(to_regclass('kept')::text, 'gone')").await, "gone");
    assert_eq!(setup::url(&server), url);

    // After an orderly stop the cluster survives a reboot.
    execute(&server, "create table kept as select 1").await;
    server.stop().await.unwrap();
    let server = setup.start().await;
    assert_eq!((setup.recreated(), text(&server, "select count(*)::text from kept").await.as_str()), (None, "1"));
    server.stop().await.unwrap();
}

/// Kills the supervisor first, so that it cannot react to the death of Postgres.
async fn kill_everything(setup: &Setup) {
    let postmaster = setup.postmaster_pid();
    signal(setup.supervisor_pid(), Signal::SIGKILL);
    signal(postmaster, Signal::SIGKILL);
    setup.until_nothing_runs().await;
}

#[tokio::test]
async fn start_repeats_interrupted_initdb() {
    let setup = Setup::new();
    let mut daemon = setup.daemon();
    daemon.wait_for_line("Creating");
    until_async("initdb writes files", async || {
        let names: Vec<_> = std::fs::read_dir(&setup.data_dir).unwrap().flatten().map(|entry| entry.path()).collect();
        let has_files = |dir: &std::path::PathBuf| dir.join("PG_VERSION").is_file();
        if names.iter().any(has_files) { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    daemon.signal(Signal::SIGKILL);
    assert!(!setup.data_dir.join("pgdata").exists());
    let server = setup.start().await;
    assert!(setup.recreated().unwrap().contains("was interrupted"), "{:?}", setup.stages());
    assert_eq!(text(&server, "select 'fine'").await, "fine");
    let leftovers: Vec<_> = std::fs::read_dir(&setup.data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("new") || name.starts_with("initdb"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    server.stop().await.unwrap();
}

/// An unrelated process. It has none of the test's streams and is killed when the test is over.
struct UnrelatedProcess(Child);

impl UnrelatedProcess {
    fn of(user: u32) -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").uid(user).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for UnrelatedProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn start_ignores_stale_pid_file_with_reused_id() {
    let setup = Setup::new();
    let server = setup.start().await;
    let stale = setup.read("pgdata/postmaster.pid");
    server.stop().await.unwrap();
    // Postgres refuses to start only when the id is that of a process of its own user.
    let owner = std::fs::metadata(setup.data_dir.join("pgdata")).unwrap().uid();
    let mut unrelated = UnrelatedProcess::of(owner);
    let (_, rest) = stale.split_once('\n').unwrap();
    std::fs::write(setup.data_dir.join("pgdata/postmaster.pid"), format!("{}\n{rest}", unrelated.0.id())).unwrap();
    let server = setup.start().await;
    assert!(
        !setup.stages().iter().any(|stage| matches!(stage, Progress::OrphanStopped { .. })),
        "{:?}",
        setup.stages()
    );
    assert_eq!(unrelated.0.try_wait().unwrap(), None, "an unrelated process was killed");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn start_leaves_taken_port_only_without_leases() {
    let setup = Setup::new();
    let server = setup.start().await;
    let port = server.port();
    server.stop().await.unwrap();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let server = setup.start().await;
    let moved = server.port();
    assert!(setup.stages().contains(&Progress::PortChanged { from: port, to: moved }), "{:?}", setup.stages());
    drop(other);
    kill_everything(&setup).await;
    drop(server);
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, moved)).unwrap();
    let message = setup.try_start().await.err().unwrap().to_string();
    assert!(message.contains(&moved.to_string()) && message.contains("lease"), "{message}");
    drop(other);
    let server = setup.start().await;
    assert_eq!(server.port(), moved);
    server.stop().await.unwrap();
}
