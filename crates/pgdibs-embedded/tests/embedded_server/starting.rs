//! Tests of the first start, the settings, the logins and an orderly stop.

use std::os::unix::fs::MetadataExt;

use pgdibs_embedded::{EmbeddedOptions, Progress, start};
use pgdibs_postgres::public_connect::PgProbe;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::setup;
use crate::setup::{Setup, execute, text};
use pgdibs_testing::wait::until_async;

#[tokio::test]
async fn first_start_is_private_and_requires_passwords() {
    let setup = Setup::new();
    let server = setup.start().await;
    assert!(!server.adopted());
    let stages = setup.stages();
    assert_eq!(stages.first(), Some(&Progress::Finding));
    assert!(stages.iter().any(|stage| matches!(stage, Progress::InitDb { .. })), "{stages:?}");
    assert_eq!(stages.last(), Some(&Progress::Ready { port: server.port() }));

    let mode = |path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(setup.data_dir.join("superuser-password")), 0o600);
    assert_eq!(mode(server.socket_dir()), 0o700);
    assert_eq!(mode(server.pgdata()), 0o700);
    let leftovers: Vec<_> = std::fs::read_dir(&setup.data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("new") || name.starts_with("initdb"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");

    let over_tcp = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(server.port()).username("postgres");
    let over_socket =
        PgConnectOptions::new_without_pgpass().socket(server.socket_dir()).port(server.port()).username("postgres");
    let right = setup.read("superuser-password");
    for options in [over_tcp, over_socket] {
        let error = PgConnection::connect_with(&options.clone().password("wrong")).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("28P01"), "{error}");
        let good = PgConnection::connect_with(&options.password(right.trim()).database("postgres")).await;
        good.unwrap().close().await.unwrap();
    }
    let rules = "select string_agg(distinct auth_method, ',') from pg_hba_file_rules";
    assert_eq!(text(&server, rules).await, "scram-sha-256");
    let verifier = "select left(rolpassword, 14) from pg_authid where rolname = 'postgres'";
    assert_eq!(text(&server, verifier).await, "SCRAM-SHA-256$");
    assert_eq!(listening_addresses(server.port()), ["0100007F"]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn server_listens_on_configured_address_and_loopback() {
    let setup = Setup::new();
    let free = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let options = EmbeddedOptions { listen: Some(free), ..setup.options() };
    let server = start(&options, &PgProbe, |_| {}).await.unwrap();
    assert_eq!(server.port(), free.port());
    let mut listening = listening_addresses(server.port());
    listening.sort();
    assert_eq!(listening, ["0100007F", "0200007F"]);
    assert_eq!(text(&server, "select 'reached'").await, "reached");
    server.stop().await.unwrap();
    // Without a configured address, the port of the last start stays.
    let server = setup.start().await;
    assert_eq!((server.port(), listening_addresses(server.port())), (free.port(), vec!["0100007F".to_owned()]));
    server.stop().await.unwrap();
}

/// The local addresses that listen on `port`, in the kernel's notation.
fn listening_addresses(port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| std::fs::read_to_string(table).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state) = (fields.get(1)?, fields.get(3)?);
            (*state == "0A").then(|| local.strip_suffix(&suffix).map(str::to_owned))?
        })
        .collect()
}

#[tokio::test]
async fn settings_are_those_for_test_data() {
    let setup = Setup::new();
    let server = setup.start().await;
    for (name, value) in [
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("wal_level", "minimal"),
        ("max_connections", "40"),
        ("max_locks_per_transaction", "256"),
        ("max_prepared_transactions", "0"),
        ("shared_buffers", "128MB"),
        ("autovacuum", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("data_checksums", "off"),
        ("server_encoding", "UTF8"),
    ] {
        assert_eq!(text(&server, &format!("show {name}")).await, value, "{name}");
    }
    assert_eq!(text(&server, "show data_directory").await, server.pgdata().display().to_string());
    let version = text(&server, "show server_version").await;
    assert!(version.starts_with(&server.major().to_string()), "{version}");
    assert!(server.bin_dir().join("postgres").is_file());
    let not_applied = "select count(*)::text from pg_file_settings where error is not null";
    assert_eq!(text(&server, not_applied).await, "0");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn start_after_stop_keeps_port_password_and_data() {
    let setup = Setup::new();
    let server = setup.start().await;
    let (url, port) = (setup::url(&server), server.port());
    execute(&server, "create table kept as select 42 as answer").await;
    server.stop().await.unwrap();
    assert_eq!(setup.processes(), Vec::<String>::new());
    assert!(!setup.data_dir.join("running-since-boot").exists());

    let server = setup.start().await;
    assert_eq!((setup::url(&server), server.port(), server.adopted()), (url, port, false));
    assert_eq!(text(&server, "select answer::text from kept").await, "42");
    assert!(!setup.stages().iter().any(|stage| matches!(stage, Progress::InitDb { .. } | Progress::Recreated { .. })));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn server_in_deep_directory_has_sockets_in_tmp() {
    let setup = Setup::below(&"a-rather-deep-directory/".repeat(6));
    for parent in setup.data_dir.ancestors().take(6) {
        std::fs::create_dir_all(parent).unwrap();
    }
    let server = setup.start().await;
    assert!(server.socket_dir().starts_with("/tmp"), "{:?}", server.socket_dir());
    assert_eq!(std::fs::metadata(server.socket_dir()).unwrap().mode() & 0o777, 0o700);
    assert_eq!(text(&server, "select 'it works'").await, "it works");
    let sockets = server.socket_dir().parent().unwrap().to_owned();
    server.stop().await.unwrap();
    std::fs::remove_dir_all(sockets).unwrap();
}

#[tokio::test]
async fn dropped_start_leaves_no_process_at_any_stage() {
    let setup = Setup::new();
    for stage in ["Creating", "Starting"] {
        let (sender, mut stages) = tokio::sync::mpsc::unbounded_channel();
        let options = setup.options();
        let starting = tokio::spawn(async move {
            let result = start(&options, &PgProbe, |stage| sender.send(stage.to_string()).unwrap()).await;
            result.map(drop).map_err(|error| error.to_string())
        });
        loop {
            let reported = stages.recv().await.unwrap_or_else(|| panic!("the start ended before stage `{stage}`"));
            if reported.starts_with(stage) {
                break;
            }
        }
        until_async("a process of this start runs", async || {
            if setup.processes().is_empty() { Err("none".to_owned()) } else { Ok(()) }
        })
        .await;
        starting.abort();
        assert!(starting.await.unwrap_err().is_cancelled());
        setup.until_nothing_runs().await;
    }
    let server = setup.start().await;
    assert_eq!(text(&server, "select 'fine'").await, "fine");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn dropped_start_kills_hanging_initdb_with_children() {
    let setup = Setup::new();
    let bin_dir = setup.data_dir.with_file_name("bin");
    // A shell writes the programs. If this process wrote them, a child that another test has just forked could still have them open
    // for writing, and they would not run (ETXTBSY).
    let script = r#"mkdir -p "$1" && cd "$1" && umask 022
        printf '#!/bin/sh\necho "postgres (PostgreSQL) 15.1"\n' > postgres
        printf '#!/bin/sh\ncd "$2" && sleep 600\nexit 1\n' > initdb
        chmod 755 . postgres initdb"#;
    let mut shell = std::process::Command::new("sh");
    assert!(shell.args(["-c", script, "sh"]).arg(&bin_dir).status().unwrap().success());
    let mut options = setup.options();
    options.bin_dir = Some(bin_dir);
    let starting = tokio::spawn(async move {
        let result = start(&options, &PgProbe, |_| {}).await;
        result.map(drop).map_err(|error| error.to_string())
    });
    until_async("initdb and its child run", async || {
        let processes = setup.processes();
        if processes.iter().any(|line| line.contains("sleep 600")) { Ok(()) } else { Err(format!("{processes:?}")) }
    })
    .await;
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    setup.until_nothing_runs().await;
}
