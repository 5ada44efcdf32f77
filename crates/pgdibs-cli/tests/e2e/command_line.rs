//! The command line against a real daemon.

use serde_json::{Value, json};

use pgdibs_testing::end_to_end::program::run;
use pgdibs_testing::end_to_end::{Cluster, Place, Session, pool_name, until};

#[test]
fn commands_handle_a_lease_from_acquire_to_release() {
    let place = Place::new();
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
    pgdibs(&["release", id]).well();
    let failed = pgdibs(&["renew", id]);
    assert!(failed.code == Some(1) && failed.stderr.contains("released"), "{failed:?}");
    let kept_name = kept["kept_database"].as_str().unwrap();
    until("the kept database has its contents", || {
        let mut session = Session::try_open(kept["kept_url"].as_str().unwrap()).map_err(|error| error.to_string())?;
        assert_eq!(session.text("select n from t"), "2");
        Ok(())
    });
    let output = pgdibs(&["psql", kept_name, "--", "-Atc", "select n from t"]).well();
    assert_eq!(output.trim(), "2");
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
