//! Templates that the daemon copies from a database of the same server.

use std::time::Duration;

use serde_json::{Value, json};

use pgdibs_testing::end_to_end::program::timed;
use pgdibs_testing::end_to_end::{Api, Cluster, Place, Session, pool_name, until};

fn pool(name: &str, source: &str) -> String {
    format!("[pools.{name}]\nwarm = 0\nspares = 0\nmax = 4\n[pools.{name}.source]\n{source}\n")
}

/// Acquires as a client does, which repeats a request after Retry-After.
#[track_caller]
fn lease(api: &Api, pool: &str) -> Value {
    until("an acquire succeeds", || match api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 30})) {
        answer if answer.status == 201 => Ok(answer.body),
        answer => Err(answer.body.to_string()),
    })
}

/// Regression: a row written ten times a second, and ANALYZE, built the template every two seconds; `alter database … set` did not; each
/// object that needs a superuser, and a read-only default, made the copy fail; grants, comments and the locale were lost.
#[test]
fn copy_follows_the_schema_and_says_what_it_lacks() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let (name, later) = (pool_name("a"), pool_name("z"));
    let reader = format!("{name}_reader");
    let mut boss = cluster.superuser("postgres");
    boss.run("create database development template template0 encoding 'LATIN1' locale 'C'");
    boss.run(&format!("create role {reader}"));
    let mut development = cluster.superuser("development");
    development.run(&format!(
        "create table orders (id int primary key, what text); insert into orders select n, 'ä' from generate_series(1, 100) n; \
         comment on table orders is 'what was bought'; grant select on orders to {reader}; \
         create function secret() returns int language sql as 'select 1'; revoke all on function secret() from public; \
         alter default privileges grant select on tables to {reader}; \
         create foreign data wrapper w; create server elsewhere foreign data wrapper w; create user mapping for {reader} server elsewhere; \
         create foreign table remote (n int) server elsewhere; create view of_remote as select * from remote; \
         create publication everything for all tables; grant create on database development to {reader}; \
         create function watch() returns event_trigger language plpgsql as 'begin end'; \
         create event trigger watcher on ddl_command_end execute function watch(); \
         alter database development set default_transaction_read_only = on; alter database development set search_path = app, public; \
         alter role {reader} in database development set work_mem = '5MB'"
    ));
    place.write("z.sql", "create table t (n int);");
    place.write(
        "pgdibs.toml",
        &[pool(&name, "database = \"development\""), pool(&later, "sql_file = \"z.sql\"")].concat(),
    );
    let daemon = place.start(&[]);
    let api = daemon.api.clone();
    until("the pools exist", || match api.get("/v1/pools") {
        answer if answer.body["pools"].as_array().is_some_and(|pools| pools.len() == 2) => Ok(()),
        answer => Err(answer.body.to_string()),
    });

    let first = lease(&api, &name);
    let mut tenant = Session::of(&first);
    let expected = "100ä|what was bought|LATIN1|C|app, public|off|true|true|false|0";
    let found = format!(
        "concat_ws('|', count(*) || max(what), obj_description('orders'::regclass), getdatabaseencoding(),
             (select datcollate from pg_database where datname = current_database()), current_setting('search_path'),
             current_setting('default_transaction_read_only'), has_table_privilege('{reader}', 'orders', 'select')::text,
             has_database_privilege('{reader}', current_database(), 'create')::text,
             has_function_privilege('{reader}', 'secret()', 'execute')::text,
             (select count(*) from pg_event_trigger) + (select count(*) from pg_publication) + (select count(*) from pg_foreign_server))"
    );
    assert_eq!(tenant.text(&format!("select {found} from orders")), expected);
    tenant.run("create table public.made_by_test (n int)");
    assert_eq!(tenant.text(&format!("has_table_privilege('{reader}', 'made_by_test', 'select')::text")), "true");
    drop(tenant);
    api.release(&first);
    let log = daemon.log();
    for what in [
        "event trigger watcher",
        "publication everything",
        "server elsewhere",
        "foreign table public.remote (it depends on one that is left out)",
        "view public.of_remote (it depends on one that is left out)",
        "foreign-data wrapper w",
        "its setting default_transaction_read_only = on: neither the copy nor tests could write with it",
        &format!("the setting work_mem of role \"{reader}\" in it: tests log in as other roles"),
    ] {
        let lines = log.lines().filter(|line| line.contains(&format!("not in the copy: {what}"))).count();
        assert_eq!(lines, 1, "{what}: {log}");
    }
    let warnings = log.lines().filter(|line| line.contains("not in the copy: ")).count();
    assert_eq!(warnings, 8, "{log}");

    // Two rebuilds of the other pool, which is compared after this one, show that the daemon has seen the writes.
    let written =
        |boss: &mut Session| boss.text("select tup_updated::text from pg_stat_database where datname = 'development'");
    let before = written(&mut boss);
    development.run("set default_transaction_read_only = off");
    development.run("begin; update orders set what = 'c'; create temporary table t (n int); commit");
    let written_to = [
        "vacuum full orders",
        "analyze",
        "truncate orders",
        "insert into orders values (1, 'new')",
        "reindex table orders",
    ];
    written_to.into_iter().for_each(|statement| development.run(statement));
    until(
        "the server has counted the writes",
        || if written(&mut boss) == before { Err(before.clone()) } else { Ok(()) },
    );
    for number in 1..=2 {
        place.write("z.sql", &format!("create table t{number} (n int);"));
        let other = lease(&api, &later);
        assert_eq!(Session::of(&other).text(&format!("select count(*)::text from t{number}")), "0");
        api.release(&other);
    }
    let second = lease(&api, &name);
    assert_eq!(second["fingerprint"], first["fingerprint"]);
    assert_eq!(Session::of(&second).text("select count(*)::text from orders"), "100");
    api.release(&second);

    // On request the present rows are copied.
    let path = format!("/v1/pools/{name}/templates/{}", first["fingerprint"].as_str().unwrap());
    api.delete(&path).expect(204);
    until("the copy has the present rows", || {
        let third = lease(&api, &name);
        let rows = Session::of(&third).text("select string_agg(what, ',') from orders");
        api.release(&third);
        assert_eq!(third["fingerprint"], first["fingerprint"]);
        if rows == "new" { Ok(()) } else { Err(rows) }
    });
    boss.run("alter database development set work_mem = '7MB'");
    until("the copy has the new setting", || {
        let fourth = lease(&api, &name);
        let setting = Session::of(&fourth).text("current_setting('work_mem')");
        api.release(&fourth);
        if setting == "7MB" && fourth["fingerprint"] != first["fingerprint"] { Ok(()) } else { Err(setting) }
    });
    let built = daemon.log().lines().filter(|line| line.contains("built the template") && line.contains(&name)).count();
    assert_eq!(built, 3, "{}", daemon.log());

    // Regression: pg_dump waited for a lock without a deadline.
    let mut holder = cluster.superuser("development");
    holder.run("set application_name = 'migration'; begin; lock table orders in access exclusive mode");
    place.write("pgdibs.toml", &pool(&name, "database = \"development\"\ntimeout_seconds = 4"));
    daemon.stop();
    boss.run("alter database development set work_mem = '8MB'");
    let daemon = place.start(&[]);
    let api = daemon.api.clone();
    let (took, sentence) = timed(|| {
        until("an acquire fails", || match api.post("/v1/leases", &json!({"pool": name, "wait_seconds": 30})) {
            answer if answer.status == 422 => Ok(answer.refused(422, "template_failed")),
            answer => Err(answer.body.to_string()),
        })
    });
    let process = holder.text("pg_backend_pid()::text");
    let expected = format!(
        "for a lock on public.orders of database \"development\" that session {process} holds (role the-boss, application migration, idle in transaction for "
    );
    assert!(
        sentence.contains(&expected) && sentence.contains(&format!("pg_terminate_backend({process})")),
        "{sentence}"
    );
    assert!(took < Duration::from_secs(20), "{took:?}");
    holder.run("rollback");
    api.release(&lease(&api, &name));
    daemon.stop();
}
