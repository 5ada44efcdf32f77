//! The embedded server with, between and after its daemons.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, Daemon, Place, Session, pool_name, signal, until};

const SCHEMA: &str = "create table witness (id bigserial primary key, note text)";

/// The ready databases by name and identity.
fn ready_databases(api: &Api, pool: &str) -> Vec<(String, Value)> {
    let databases = api.get(&format!("/v1/databases?pool={pool}")).expect(200);
    let ready = databases["databases"].as_array().unwrap().iter().filter(|database| database["state"] == "ready");
    let mut ready: Vec<_> =
        ready.map(|database| (database["database"].as_str().unwrap().to_owned(), database["oid"].clone())).collect();
    ready.sort_by(|one, other| one.0.cmp(&other.0));
    ready
}

#[test]
fn embedded_daemon_starts_early_excludes_others_and_stops_cleanly() {
    let place = Place::create();
    let mut daemon = place.start(&[]);
    let api = daemon.api.clone();
    assert_eq!(api.get("/livez").status, 200);
    let first = api.get("/readyz");
    assert_eq!((first.status, &first.body["ready"]), (503, &json!(false)), "initdb cannot have ended yet");
    assert_ne!(first.body["reasons"], json!([]));
    let early = api.post("/v1/leases", &json!({"pool": "any", "wait_seconds": 0})).refused(503, "server_unavailable");
    assert!(early.contains("starting"), "{early}");
    daemon.until_ready();

    // A second daemon with the same data directory and another port.
    let mut second = place.start(&[]);
    let (status, _) = second.ended();
    assert_eq!(status.code(), Some(75), "{}", second.log());
    let data_dir = place.data_dir().display().to_string();
    assert!(second.log().contains(&data_dir) && second.log().contains(&daemon.pid().to_string()), "{}", second.log());

    // A second daemon with the same port.
    let other = Place::create();
    let taken = api.url().replace("http://", "");
    let (status, log) = match Daemon::try_start(other.program(&["serve", "--listen", &taken], &[]), &other.next_log()) {
        Err(ended) => ended,
        Ok(_) => panic!("two daemons listen on {taken}"),
    };
    assert_eq!(status.code(), Some(69), "{log}");
    assert!(log.contains(&taken) && log.contains("--listen"), "{log}");
    assert!(!other.data_dir().exists(), "a daemon that cannot listen creates nothing");

    // An ended lease does not keep the server running.
    let pool = pool_name("life");
    api.make_pool(&pool, &json!({"warm": 1, "spares": 0}), SCHEMA);
    let lease = api.lease(&json!({"pool": pool}));
    assert_eq!(Session::of(&lease).text("select count(*) from witness"), "0");
    api.release(&lease);
    daemon.stop();
    place.until_nothing_runs();

    // The next daemon finds the data.
    let daemon = place.daemon(&[]);
    let lease = daemon.api.lease(&json!({"pool": pool}));
    assert_eq!(Session::of(&lease).text("select count(*) from witness"), "0");
    daemon.api.release(&lease);
    daemon.stop();
    place.until_nothing_runs();
}

#[test]
fn live_lease_outlives_daemons_until_stop_server() {
    let place = Place::create();
    let pool = pool_name("keep");
    let mut daemon = place.daemon(&[]);
    daemon.api.make_pool(&pool, &json!({"warm": 2, "spares": 1}), SCHEMA);
    let lease = daemon.api.lease(&json!({"pool": pool, "run": "r", "worker": "gw0"}));
    let id = lease["id"].as_str().unwrap();
    let mut session = Session::of(&lease);
    session.run("insert into witness (note) values ('before')");
    let postmaster = place.postmaster_pid();

    let ways: [fn(Daemon); 2] = [Daemon::stop, Daemon::kill];
    for (round, end) in ways.into_iter().enumerate() {
        daemon.api.until_counts(&pool, &json!({"ready": 2, "leased": 1, "spare": 1, "creating": 0, "retiring": 0}));
        let before = ready_databases(&daemon.api, &pool);
        end(daemon);
        session.run("insert into witness (note) values ('between daemons')");
        assert_eq!(Session::of(&lease).text("select count(*) from witness"), (round + 2).to_string());
        let arguments: &[&str] = if round == 1 { &["serve", "--stop-server"] } else { &["serve"] };
        daemon = Daemon::start(place.program(arguments, &[]), &place.next_log());
        daemon.until_ready();
        assert_eq!(place.postmaster_pid(), postmaster, "the daemon adopts the running server");
        assert_eq!(ready_databases(&daemon.api, &pool), before, "the pool is unchanged");
        let seen = daemon.api.get(&format!("/v1/leases/{id}")).expect(200);
        assert_eq!((&seen["state"], &seen["generation"], &seen["url"]), (&json!("live"), &json!(1), &lease["url"]));
        daemon.api.post(&format!("/v1/leases/{id}/renew"), &json!({})).expect(200);
        // The key still belongs to this lease.
        let again = daemon.api.post("/v1/leases", &json!({"pool": pool, "run": "r", "worker": "gw0"})).expect(200);
        assert_eq!(again["id"], lease["id"]);
        session.run("select count(*) from witness");
    }
    daemon.stop();
    place.until_nothing_runs();
    assert!(session.try_run("select 1").is_err(), "--stop-server stops the server despite a live lease");
}

/// The nice values of the backends that clone and drop, by `ps`, and where there are autogroups those of their sessions.
fn priorities_of_ddl(place: &Place) -> BTreeSet<String> {
    let pids = "select string_agg(pid::text, ' ') from pg_stat_activity where application_name like 'pgdibs-ddl/%'";
    let pids = place.superuser("postgres").text(pids);
    let priority = |pid: &str| {
        let listed = Command::new("ps").args(["-o", "ni=", "-p", pid]).output().unwrap().stdout;
        let process = String::from_utf8(listed).unwrap().trim().to_owned();
        let group = std::fs::read_to_string(format!("/proc/{pid}/autogroup")).unwrap_or_default();
        let group = group.split_whitespace().last().unwrap_or(&process).to_owned();
        format!("{process} {group}")
    };
    pids.split_whitespace().map(priority).collect()
}

#[test]
fn killed_embedded_server_restarts_and_leases_survive() {
    let place = Place::create();
    let pool = pool_name("phoenix");
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    api.make_pool(&pool, &json!({"warm": 1, "spares": 0}), SCHEMA);
    let lease = api.lease(&json!({"pool": pool}));
    Session::of(&lease).run("insert into witness (note) values ('before the crash')");
    let postmaster = place.postmaster_pid();
    signal(postmaster, Signal::SIGKILL);
    until("another postmaster serves the lease", || {
        let session = Session::try_open(lease["url"].as_str().unwrap()).map_err(|error| error.to_string())?;
        drop(session);
        let now = place.postmaster_pid();
        if now == postmaster { Err(format!("it is still {now}")) } else { Ok(()) }
    });
    until("ready again", || {
        let answer = api.get("/readyz");
        if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
    });
    let id = lease["id"].as_str().unwrap();
    assert_eq!(api.get(&format!("/v1/leases/{id}")).expect(200)["state"], "live");
    api.post(&format!("/v1/leases/{id}/reset"), &json!({})).expect(200);
    assert_eq!(Session::of(&lease).text("select count(*) from witness"), "0");
    api.release(&lease);
    api.until_counts(&pool, &json!({"ready": 1, "leased": 0, "retiring": 0}));
    // Those that clone, and those that drop.
    assert_eq!(priorities_of_ddl(&place), ["0 0".to_owned(), "5 5".to_owned()].into());
    daemon.stop();
    place.until_nothing_runs();
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[test]
    fn embedded_server_without_daemon_stops_after_linger() {
        let place = Place::create();
        let pool = pool_name("linger");
        let linger = Duration::from_secs(2);
        let mut daemon = place.start(&[("PGDIBS_LINGER_SECONDS", "2")]);
        daemon.until_ready();
        daemon.api.make_pool(&pool, &json!({"warm": 1, "spares": 0}), SCHEMA);
        let lease = daemon.api.lease(&json!({"pool": pool}));
        let mut session = Session::of(&lease);
        let began = Instant::now();
        daemon.kill();
        session.run("select 1");
        place.until_nothing_runs();
        assert!(began.elapsed() >= linger - Duration::from_millis(200), "it stopped after {:?}", began.elapsed());
    }
}
