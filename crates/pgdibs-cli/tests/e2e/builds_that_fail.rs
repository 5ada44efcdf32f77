//! Failing and hanging builds by the daemon: it reports the reason, and the next attempt starts with an empty database.

use std::time::Duration;

use serde_json::json;

use pgdibs_testing::end_to_end::program::timed;
use pgdibs_testing::end_to_end::{Api, Cluster, Place, Session, pool_name, until};

fn pool(name: &str, source: &str) -> String {
    format!("[pools.{name}]\nwarm = 1\nspares = 0\nmax = 4\n[pools.{name}.source]\n{source}\n")
}

/// The error of an acquire after a failed build.
#[track_caller]
fn failure(api: &Api, pool: &str) -> String {
    let answer = until("an answer other than `try again`", || {
        let answer = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 30}));
        if matches!(answer.status, 404 | 503) { Err(answer.body.to_string()) } else { Ok(answer) }
    });
    answer.refused(422, "template_failed")
}

/// Waits until an acquire succeeds, and runs a query.
#[track_caller]
fn rebuilt(api: &Api, pool: &str, sql: &str) -> String {
    let lease = until("an acquire succeeds after the rebuild", || {
        let answer = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 30}));
        if answer.status == 201 { Ok(answer.body) } else { Err(answer.body.to_string()) }
    });
    let text = Session::of(&lease).text(sql);
    api.release(&lease);
    text
}

/// Regression: after a failed build, `/readyz` stayed 503 although the inputs were again those of a ready template (found by
/// following the README).
///
/// Regression: a failed build was repeated every seven seconds without a request, with a `failed` row each time (found by
/// following the README).
#[test]
fn failed_builds_report_reason_and_can_be_repeated() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let [failing, hanging, wrong, missing] = ["failing", "hanging", "wrong", "missing"].map(pool_name);
    place.write(
        "migrate.sh",
        "psql -qc 'create table half (n int)'\necho about to fail\necho cannot go on >&2\nexit 3\n",
    );
    place.write("hang.sh", "echo waiting for a lock\nsleep 1000 & wait\n");
    place.write("db/01.sql", "create table fine (n int);\n");
    place.write("db/02.sql", "select 1;\n\ninsert into nowhere\nvalues (1);\n");
    let toml = [
        pool(&failing, "command = [\"sh\", \"migrate.sh\"]\ninputs = [\"migrate.sh\"]"),
        pool(&hanging, "command = [\"sh\", \"hang.sh\"]\ninputs = [\"hang.sh\"]\ntimeout_seconds = 2"),
        pool(&wrong, "sql_dir = \"db\""),
        pool(&missing, "sql_file = \"not-there-yet.sql\""),
    ];
    place.write("pgdibs.toml", &toml.concat());
    let mut daemon = place.start(&[]);
    let api = daemon.api.clone();
    until("the pools exist", || {
        let answer = api.get("/v1/pools");
        if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
    });

    let (took, detail) = timed(|| failure(&api, &hanging));
    assert!(detail.contains("waiting for a lock") && detail.contains('2'), "{detail}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    until("the hanging command has ended", || {
        let left = place.processes().into_iter().filter(|line| line.contains("sleep 1000")).collect::<Vec<_>>();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let detail = failure(&api, &failing);
    assert!(detail.contains("about to fail") && detail.contains("cannot go on") && detail.contains('3'), "{detail}");
    let detail = failure(&api, &wrong);
    assert!(
        detail.contains("02.sql, line 3") && detail.contains("nowhere") && detail.contains("insert into nowhere"),
        "{detail}"
    );
    let detail = failure(&api, &missing);
    assert!(detail.contains("not-there-yet.sql"), "{detail}");
    let ready = api.get("/readyz");
    assert_eq!(ready.status, 503);
    for name in [&failing, &hanging, &wrong, &missing] {
        assert!(ready.body["reasons"].to_string().contains(name.as_str()), "{}", ready.body);
    }

    // The table of the failed attempt does not exist in the next one.
    place.write("migrate.sh", "exec psql -qv ON_ERROR_STOP=1 -c 'create table half (n int)'\n");
    assert_eq!(rebuilt(&api, &failing, "select count(*) from half"), "0");
    place.write("hang.sh", "exec psql -qv ON_ERROR_STOP=1 -c 'create table whole (n int)'\n");
    assert_eq!(rebuilt(&api, &hanging, "select count(*) from whole"), "0");
    place.write("db/02.sql", "insert into fine values (7);\n");
    assert_eq!(rebuilt(&api, &wrong, "select n from fine"), "7");
    place.write("not-there-yet.sql", "create table here (n int);");
    assert_eq!(rebuilt(&api, &missing, "select count(*) from here"), "0");
    daemon.until_ready();
    // The databases of the failed attempts are dropped.
    let mut boss = cluster.superuser("postgres");
    until("no database of a failed build remains", || {
        let left = boss.list("select datname::text from pg_database where datname like '%\\_build\\_%'");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    daemon.stop();
}
