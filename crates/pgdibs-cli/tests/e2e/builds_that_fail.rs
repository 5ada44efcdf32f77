//! Builds by the daemon that fail or hang: the reason is told, the next attempt starts clean, the daemon goes on.

use std::time::Duration;

use serde_json::json;

use crate::support::program::timed;
use crate::support::{Api, Cluster, Place, Session, pool_name, until};

fn pool(name: &str, source: &str) -> String {
    format!("[pools.{name}]\nwarm = 1\nspares = 0\nmax = 4\n[pools.{name}.source]\n{source}\n")
}

/// Why no database of the pool can be had.
#[track_caller]
fn failure(api: &Api, pool: &str) -> String {
    let answer = until("an answer other than `try again`", || {
        let answer = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 30}));
        if matches!(answer.status, 404 | 503) { Err(answer.body.to_string()) } else { Ok(answer) }
    });
    answer.refused(422, "template_failed")
}

/// Waits until the mended build is served.
#[track_caller]
fn mended(api: &Api, pool: &str, sql: &str) -> String {
    let lease = until("the mended build is served", || {
        let answer = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 30}));
        if answer.status == 201 { Ok(answer.body) } else { Err(answer.body.to_string()) }
    });
    let text = Session::of(&lease).text(sql);
    api.release(&lease);
    text
}

/// Regression: after a failed build, `/readyz` stayed 503 although the inputs were back at those of a ready template (found by
/// following the README as a newcomer).
///
/// Regression: a build that failed was tried again every seven seconds without anybody asking, with a `failed` row each time
/// (found by following the README as a newcomer).
#[test]
fn a_failing_a_hanging_and_a_wrong_build_tell_why_and_can_be_mended() {
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
    until("pools can be asked for", || {
        let answer = api.get("/v1/pools");
        if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
    });

    let (took, said) = timed(|| failure(&api, &hanging));
    assert!(said.contains("waiting for a lock") && said.contains('2'), "{said}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    until("nothing of the hanging command is left", || {
        let left = place.processes().into_iter().filter(|line| line.contains("sleep 1000")).collect::<Vec<_>>();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let said = failure(&api, &failing);
    assert!(said.contains("about to fail") && said.contains("cannot go on") && said.contains('3'), "{said}");
    let said = failure(&api, &wrong);
    assert!(
        said.contains("02.sql, line 3") && said.contains("nowhere") && said.contains("insert into nowhere"),
        "{said}"
    );
    let said = failure(&api, &missing);
    assert!(said.contains("not-there-yet.sql"), "{said}");
    let ready = api.get("/readyz");
    assert_eq!(ready.status, 503);
    for name in [&failing, &hanging, &wrong, &missing] {
        assert!(ready.body["reasons"].to_string().contains(name.as_str()), "{}", ready.body);
    }

    // The table that the failed attempt left half done is not in the way.
    place.write("migrate.sh", "exec psql -qv ON_ERROR_STOP=1 -c 'create table half (n int)'\n");
    assert_eq!(mended(&api, &failing, "select count(*) from half"), "0");
    place.write("hang.sh", "exec psql -qv ON_ERROR_STOP=1 -c 'create table whole (n int)'\n");
    assert_eq!(mended(&api, &hanging, "select count(*) from whole"), "0");
    place.write("db/02.sql", "insert into fine values (7);\n");
    assert_eq!(mended(&api, &wrong, "select n from fine"), "7");
    place.write("not-there-yet.sql", "create table here (n int);");
    assert_eq!(mended(&api, &missing, "select count(*) from here"), "0");
    daemon.until_ready();
    // Nothing is left of the attempts that failed.
    let mut boss = cluster.superuser("postgres");
    until("no database of a failed build is left", || {
        let left = boss.list("select datname::text from pg_database where datname like '%\\_build\\_%'");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    daemon.stop();
}
