//! The command line against a real daemon.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::program::{run, timed};
use pgdibs_testing::end_to_end::{Cluster, Place, Session, pool_name, until};

#[test]
fn commands_handle_a_lease_from_acquire_to_release() {
    let place = Place::create();
    let daemon = place.daemon(&[]);
    let url = daemon.api.url();
    let variables = [("PGDIBS_URL", url.as_str())];
    let pgdibs = |arguments: &[&str]| run(place.program(arguments, &variables));
    let pool = pool_name("cli");

    pgdibs(&["healthcheck", "--ready"]).well();
    pgdibs(&["pool", "set", &pool, "--warm", "2", "--max", "4", "--spares", "1"]).well();
    assert_eq!(pgdibs(&["pool", "set", "Shouting"]).code, Some(1));
    let failing = ["template", "build", &pool, "--fingerprint", "f", "--", "sh", "-c", "exit 7"];
    assert_eq!(pgdibs(&failing).code, Some(7));
    let migrate = "psql -qv ON_ERROR_STOP=1 -c 'create table t (n int)'; test -n \"$PGDIBS_URL\"";
    let build = ["template", "build", &pool, "--fingerprint", "f", "--", "sh", "-c", migrate];
    assert_eq!(pgdibs(&build).well().trim(), "f");
    let again = pgdibs(&build);
    assert!(again.stderr.contains("already"), "{again:?}");
    assert!(pgdibs(&["template", "list", &pool]).well().contains('f'));
    assert!(pgdibs(&["pool", "list"]).well().contains(&pool));

    let lease: Value =
        serde_json::from_str(&pgdibs(&["lease", &pool, "--ttl", "600", "--output", "json"]).well()).unwrap();
    let (id, database) = (lease["id"].as_str().unwrap(), lease["database"].as_str().unwrap());
    let mut session = Session::of(&lease);
    session.run("insert into t values (1)");
    pgdibs(&["renew", id]).well();
    let output = pgdibs(&["psql", database, "--", "-Atc", "select n from t"]).well();
    assert_eq!(output.trim(), "1");
    pgdibs(&["reset", database]).well();
    assert!(session.try_run("select 1").is_err());
    let mut session = Session::of(&lease);
    assert_eq!(session.text("select count(*) from t"), "0");
    session.run("insert into t values (2)");
    let kept: Value =
        serde_json::from_str(&pgdibs(&["keep", database, "--reason", "inspection", "--output", "json"]).well())
            .unwrap();
    let status: Value = serde_json::from_str(&pgdibs(&["status", "--output", "json"]).well()).unwrap();
    assert_eq!(status["leases"][0]["id"], json!(id));
    assert!(pgdibs(&["status"]).well().contains(database));
    assert_eq!(pgdibs(&["pool", "drop", &pool]).code, Some(1), "the pool is in use");
    let kept_name = kept["kept_database"].as_str().unwrap();
    pgdibs(&["release", id]).well();
    // At once: the database has this name a moment after the release.
    let output = pgdibs(&["psql", kept_name, "--", "-Atc", "select n from t"]).well();
    assert_eq!(output.trim(), "2");
    assert_eq!(Session::open(kept["kept_url"].as_str().unwrap()).text("select n from t"), "2");
    let failed = pgdibs(&["renew", id]);
    assert!(failed.code == Some(1) && failed.stderr.contains("released"), "{failed:?}");
    pgdibs(&["release", kept_name]).well();
    until("the kept database is dropped", || {
        let all = daemon.api.get("/v1/databases").expect(200);
        let left: Vec<&Value> =
            all["databases"].as_array().unwrap().iter().filter(|one| one["database"] == kept_name).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let url_of_another = pgdibs(&["lease", &pool, "--worker", "gw3"]).well();
    assert_eq!(Session::open(url_of_another.trim()).text("select count(*) from t"), "0");
    pgdibs(&["pool", "drop", &pool, "--force"]).well();
    until("the pool is deleted", || {
        let left = daemon.api.get("/v1/pools").expect(200);
        if left["pools"] == json!([]) { Ok(()) } else { Err(left.to_string()) }
    });
    daemon.stop();
    let failed = pgdibs(&["status"]);
    assert!(failed.code == Some(69) && failed.stderr.contains(&url), "{failed:?}");
    assert_eq!(pgdibs(&["healthcheck"]).code, Some(1));
}

/// Regression: nothing ended a daemon that a client had started, but a search for its process.
#[test]
fn stop_ends_the_daemon_of_the_data_directory() {
    let place = Place::create();
    let mut daemon = place.daemon(&[]);
    let url = daemon.api.url();
    let other = run(place.program(&["stop"], &[("PGDIBS_URL", "http://127.0.0.1:9")]));
    assert!(other.code == Some(1) && other.stderr.contains(&format!("listens at {url}, not at")), "{other:?}");
    let stopped = run(place.program(&["stop"], &[("PGDIBS_URL", &url)])).well();
    assert_eq!(stopped, format!("stopped the daemon at {url} (process {}); its Postgres has stopped\n", daemon.pid()));
    daemon.ended();
    let none = run(place.program(&["stop"], &[]));
    assert!(none.code == Some(69) && none.stderr.contains("no daemon runs on the data directory"), "{none:?}");
    place.until_nothing_runs();

    let daemon = place.daemon(&[]);
    let pool = pool_name("stop");
    daemon.api.make_pool(&pool, &json!({"warm": 1, "spares": 0}), "create table t (n int)");
    daemon.api.lease(&json!({"pool": pool}));
    let stopped: Value = serde_json::from_str(&run(place.program(&["stop", "--output", "json"], &[])).well()).unwrap();
    assert_eq!(stopped["stopped"]["url"], json!(daemon.api.url()), "{stopped}");
    assert_eq!(stopped["stopped"]["server_stays"], json!(true), "{stopped}");
}

#[test]
fn purge_removes_everything_of_pgdibs_and_nothing_else() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let databases = "select datname::text from pg_database";
    let roles = "select rolname::text from pg_roles";
    let mut boss = cluster.superuser("postgres");
    boss.run("create database of_another_user");
    boss.run("create role another_user login");
    let before = (boss.list(databases), boss.list(roles));

    let daemon = place.daemon(&[]);
    let pool = pool_name("purge");
    daemon.api.make_pool(
        &pool,
        &json!({"warm": 2, "spares": 1, "roles": [format!("{pool}_role")]}),
        "create table t (n int)",
    );
    let lease = daemon.api.lease(&json!({"pool": pool, "holder": "forgetful holder"}));
    daemon.api.post(&format!("/v1/leases/{}/keep", lease["id"].as_str().unwrap()), &json!({})).expect(200);
    let ended = daemon.api.lease(&json!({"pool": pool}));
    daemon.api.post(&format!("/v1/leases/{}/keep", ended["id"].as_str().unwrap()), &json!({})).expect(200);
    daemon.api.release(&ended);
    daemon.api.until_counts(&pool, &json!({"kept": 1, "ready": 2}));
    let refused = run(place.program(&["purge", "--yes"], &[]));
    assert!(refused.code == Some(1) && refused.stderr.contains("daemon"), "{refused:?}");
    daemon.kill();

    let preview = until("its daemon is known to have ended", || {
        let preview = run(place.program(&["purge"], &[]));
        if preview.code == Some(2) { Ok(preview) } else { Err(format!("{preview:?}")) }
    });
    for word in [format!("{pool}_gw0"), "pgdibs_owner".to_owned(), "forgetful holder".to_owned(), "--yes".to_owned()] {
        assert!(preview.stderr.contains(&word), "`{word}` is missing: {}", preview.stderr);
    }
    // A database with the same owner and name, but another oid than in the catalog.
    let theirs = boss.text(&format!(
        "select datname from pg_database where datname like '{pool}_gw%' and datname <> '{pool}_gw0' order by 1 limit 1"
    ));
    boss.run(&format!("drop database {theirs}"));
    boss.run(&format!("create database {theirs}"));
    let purged = run(place.program(&["purge", "--yes"], &[])).well();
    assert!(purged.contains(&format!("{pool}_gw0")) && !purged.contains(&theirs), "{purged}");
    boss.run(&format!("drop database {theirs}"));
    assert_eq!((boss.list(databases), boss.list(roles)), before);
    let again = run(place.program(&["purge", "--yes"], &[]));
    assert!(again.code == Some(0) && again.stderr.contains("nothing to purge"), "{again:?}");
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    /// Regression: the status said "the server is not available: the Postgres server is not available: pool timed out while waiting for an
    /// open connection", without the server's port.
    #[test]
    fn outage_is_said_once_with_host_and_port() {
        let cluster = Cluster::start(&[]);
        let place = Place::on(&cluster.url());
        let daemon = place.daemon(&[]);
        let url = daemon.api.url();
        let pgdibs = |arguments: &[&str]| run(place.program(arguments, &[("PGDIBS_URL", &url)]));
        cluster.stop();
        until("the daemon knows of the outage", || {
            let ready = pgdibs(&["healthcheck", "--ready"]);
            if ready.code == Some(1) && ready.stderr.contains("not available") {
                Ok(())
            } else {
                Err(format!("{ready:?}"))
            }
        });
        let address = format!("(127.0.0.1:{})", cluster.port());
        for arguments in [&["healthcheck", "--ready"][..], &["status"], &["lease", "some", "--wait", "0"]] {
            let (took, done) = timed(|| pgdibs(arguments));
            let said = format!("{}{}", done.stdout, done.stderr).replace("\n  ", " ");
            let sentence = daemon.api.get("/readyz").body["reasons"][0].as_str().unwrap().to_owned();
            assert_eq!(said.matches(&sentence).count(), 1, "{sentence}\n{said}");
            assert_eq!(said.matches("the Postgres server is not available: ").count(), 1, "{said}");
            assert!(said.contains(&address) && !said.contains("pool timed out"), "{said}");
            assert!(took < Duration::from_secs(3), "{arguments:?} took {took:?}");
        }
        daemon.signal(Signal::SIGSTOP);
        let (took, stopped) = timed(|| pgdibs(&["healthcheck"]));
        daemon.signal(Signal::SIGCONT);
        assert!(stopped.code == Some(1) && took < Duration::from_secs(20), "{took:?} {stopped:?}");
        daemon.kill();
    }
}
