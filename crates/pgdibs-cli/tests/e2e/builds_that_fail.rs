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
        "psql -qc 'create table half (n int)'\nfor n in $(seq 1 300); do echo migration $n; done\necho \"at $DATABASE_URL\"\n\
         echo 'Traceback (most recent call last):\n  File \"migrate.sh\", line 4, in upgrade\n    op()\nKeyError: 7'\necho about to fail\necho cannot go on >&2\nexit 3\n",
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
    let own = "the build failed at sh migrate.sh: migrate.sh, line 4, in upgrade: KeyError: 7; the command failed with exit code 3; its last lines:";
    assert!(
        detail.contains(own) && detail.ends_with(&format!("the whole output: pgdibs template log {failing}")),
        "{detail}"
    );
    let url = api.url();
    let log = place.program(&["template", "log", &failing], &[("PGDIBS_URL", &url)]).output().unwrap();
    let log = String::from_utf8(log.stdout).unwrap();
    assert!(log.contains("migration 1\nmigration 2\n") && log.contains("migration 300\n"), "{log}");
    assert!(log.contains("********@") && log.ends_with("about to fail\ncannot go on\n"), "{log}");
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

/// Regression: a source whose programs made nothing gave an empty template, `/readyz` 200 and leases (a migration folder whose files
/// also held the statements that take the change back).
#[test]
fn build_that_makes_nothing_fails_unless_allowed() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let [undone, temporary, command, allowed, setting, schema] =
        ["undone", "temporary", "command", "allowed", "setting", "schema"].map(pool_name);
    place.write("undone/1.sql", "create table users (id int);\n");
    place.write("undone/2.sql", "drop table users;\n");
    place.write("temporary.sql", "create temporary table t (n int); select 1;\n");
    place.write("empty.sql", "select 1;\n");
    place.write(
        "setting.sql",
        "select format('alter role %I in database %I set search_path = %L', current_user, current_database(), 'here') \\gexec\n",
    );
    place.write("schema.sql", "create schema only_this;\n");
    let toml = [
        pool(&undone, "sql_dir = \"undone\""),
        pool(&temporary, "sql_file = \"temporary.sql\""),
        pool(&command, "command = [\"true\", \"--all\"]\ninputs = [\"empty.sql\"]"),
        pool(&allowed, "sql_file = \"empty.sql\"\nallow_empty = true"),
        pool(&setting, "sql_file = \"setting.sql\""),
        pool(&schema, "sql_file = \"schema.sql\""),
    ];
    place.write("pgdibs.toml", &toml.concat());
    let daemon = place.start(&[]);
    let api = daemon.api.clone();
    until("the pools exist", || match api.get("/v1/pools") {
        answer if answer.status == 200 && answer.body["pools"].as_array().unwrap().len() == 6 => Ok(()),
        answer => Err(answer.body.to_string()),
    });
    for (pool, steps) in [
        (&undone, "2 files in this order: undone/1.sql, undone/2.sql"),
        (&temporary, "temporary.sql"),
        (&command, "`true --all`"),
    ] {
        let sentence = failure(&api, pool);
        let expected = format!(
            "the build made nothing: {steps} ran without an error and left no relation, type, function, extension, schema or setting; \
             correct the source, or set `allow_empty = true` in [pools.{pool}.source] if the template is to be empty"
        );
        assert!(sentence.contains(&expected), "{sentence}");
    }
    assert_eq!(rebuilt(&api, &allowed, "select 1"), "1");
    let of_clone = "select count(*) > 0 from pg_db_role_setting s join pg_database d on d.oid = setdatabase \
                    where datname = current_database() and setconfig::text like '%search_path=here%'";
    assert_eq!(rebuilt(&api, &setting, of_clone), "true");
    assert_eq!(rebuilt(&api, &schema, "select count(*) from pg_namespace where nspname = 'only_this'"), "1");
    let log = daemon.log();
    assert!(log.contains("running 2 files in this order: undone/1.sql, undone/2.sql"), "{log}");
    daemon.stop();
}
