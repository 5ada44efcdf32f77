//! Templates built by the daemon from SQL files, a dump, a command or an existing database, and rebuilt when the inputs change.

use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, Cluster, Place, Session, pool_name, until};

const SIZE: &str = "warm = 1\nspares = 0\nmax = 4\n";

fn pool(name: &str, settings: &str, source: &str) -> String {
    format!("[pools.{name}]\n{SIZE}{settings}\n[pools.{name}.source]\n{source}\n")
}

/// The result of a query in a new lease of the pool.
#[track_caller]
fn found(api: &Api, pool: &str, sql: &str) -> (Value, String) {
    let lease = api.lease(&json!({"pool": pool, "wait_seconds": 60}));
    let text = Session::of(&lease).text(sql);
    api.release(&lease);
    (lease["fingerprint"].clone(), text)
}

#[test]
fn each_source_is_rebuilt_when_its_inputs_change() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let [dir, file, command, database] = ["dir", "file", "command", "database"].map(pool_name);
    let mut boss = cluster.superuser("postgres");
    boss.run("create database development");
    let mut development = cluster.superuser("development");
    development.run(
        "create table orders (id int primary key, what text); \
         insert into orders select n, E'line\\nand\\ttab ' || n from generate_series(1, 100) n",
    );
    place.write("dump.sql", &cluster.dump("development"));
    let dump = std::fs::read_to_string(place.path().join("dump.sql")).unwrap();
    assert!(dump.contains("COPY public.orders") && dump.contains("\\restrict"), "not the expected dump: {dump}");
    place.write("db/01.sql", "create table t (n int);\ninsert into t values (1);\n");
    place.write("db/02.sql", "begin; insert into t values (2); commit;\n");
    place.write("app/migrate.sql", "create table migrated (version int); insert into migrated values (1);");
    let toml = [
        pool(&dir, "", "sql_dir = \"db\""),
        pool(&file, "", "sql_file = \"dump.sql\""),
        pool(
            &command,
            "",
            "command = [\"sh\", \"-c\", \"test -n \\\"$DATABASE_URL\\\" && psql -q -v ON_ERROR_STOP=1 -f app/migrate.sql\"]\ninputs = [\"app/**/*.sql\"]",
        ),
        pool(&database, "", "database = \"development\""),
    ];
    place.write("pgdibs.toml", &toml.concat());
    let mut daemon = place.start(&[]);
    let api = daemon.api.clone();
    until("the pools exist", || match api.get("/v1/pools") {
        answer if answer.status == 200 && answer.body["pools"].as_array().unwrap().len() == 4 => Ok(()),
        answer => Err(answer.body.to_string()),
    });

    // An acquire waits for the build.
    let (first, sum) = found(&api, &dir, "select sum(n) from t");
    assert_eq!(sum, "3");
    assert_eq!(found(&api, &file, "select count(*) || right(max(what), 2) from orders").1, "10099");
    assert_eq!(found(&api, &command, "select version from migrated").1, "1");
    let (of_database, orders) = found(&api, &database, "select count(*) from orders");
    assert_eq!(orders, "100");
    daemon.until_ready();
    let refused = api.post("/v1/leases", &json!({"pool": dir, "fingerprint": "another"}));
    let sentence = refused.refused(404, "template_not_found");
    assert!(sentence.contains(first.as_str().unwrap()), "the error lacks the current fingerprint: {sentence}");

    // A database of the old template is ready, but is not leased any more.
    api.until_counts(&dir, &json!({"ready": 1}));
    place.write("db/03.sql", "insert into t values (10);");
    let (second, sum) = found(&api, &dir, "select sum(n) from t");
    assert_eq!(sum, "13");
    assert_ne!(first, second);
    let template = api.get(&format!("/v1/pools/{dir}/templates/{}", second.as_str().unwrap())).expect(200);
    let changes = json!({"since": first, "changed": [], "added": ["db/03.sql"], "removed": [], "more": 0});
    assert_eq!(template["input_changes"], changes, "{template}");
    place.write("app/migrate.sql", "create table migrated (version int); insert into migrated values (2);");
    assert_eq!(found(&api, &command, "select version from migrated").1, "2");
    development.run("alter table orders add column more text");
    until("the template of the source database is rebuilt", || {
        let lease = api.lease(&json!({"pool": database, "wait_seconds": 60}));
        let columns = Session::of(&lease)
            .text("select count(*) from pg_attribute where attrelid = 'orders'::regclass and attnum > 0");
        api.release(&lease);
        if columns == "3" && lease["fingerprint"] != of_database { Ok(()) } else { Err(columns) }
    });

    // Without changes the next daemon builds nothing.
    daemon.stop();
    let daemon = place.daemon(&[]);
    assert!(!daemon.log().contains("building the template"), "{}", daemon.log());
    assert_eq!(found(&daemon.api, &dir, "select sum(n) from t"), (second, "13".to_owned()));
    daemon.stop();
}

#[test]
fn clones_have_settings_grants_and_extensions_of_template() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let name = pool_name("rich");
    let reader = format!("{name}_reader");
    // An extension that only a superuser can create; the builder is no superuser.
    let settings = json!({"warm": 1, "spares": 0, "extensions": ["pageinspect"], "roles": [reader]});
    api.put(&format!("/v1/pools/{name}"), &settings).expect(201);
    let path = format!("/v1/pools/{name}/templates/first");
    let build = api.put(&path, &json!({})).expect(201)["build"].clone();
    let built = build["database"].as_str().unwrap();
    let mut builder = Session::of(&build);
    assert_eq!(builder.text("select rolsuper from pg_roles where rolname = session_user"), "false");
    builder.run(&format!(
        "create table t (n int); grant select on t to {reader}; create schema app; create table app.inside (n int); \
         alter role pgdibs_{name} in database {built} set work_mem = '7MB'"
    ));
    let mut boss = cluster.superuser("postgres");
    boss.run(&format!("alter database {built} set search_path = app, public"));
    boss.run("create role another_user");
    boss.run(&format!("grant connect on database {built} to another_user"));
    api.post(&format!("{path}/seal"), &json!({"token": build["token"]})).expect(200);

    let [lease, sibling] = [0, 1].map(|_| api.lease(&json!({"pool": name, "wait_seconds": 60})));
    let database = lease["database"].as_str().unwrap();
    let mut session = Session::of(&lease);
    assert_eq!(session.text("select current_user"), format!("pgdibs_{name}"));
    assert_ne!(session.text("select session_user"), format!("pgdibs_{name}"), "each lease has a separate login");
    assert_eq!(session.text("select extname from pg_extension where extname = 'pageinspect'"), "pageinspect");
    assert_eq!(session.text("current_setting('search_path')"), "app, public");
    assert_eq!(session.text("current_setting('work_mem')"), "7MB");
    assert_eq!(session.text(&format!("has_table_privilege('{reader}', 'public.t', 'select')")), "true");
    assert_eq!(session.text(&format!("has_database_privilege('another_user', '{database}', 'connect')")), "true");
    session.run(&format!("set role {reader}"));
    session.run("select * from public.t; reset role");
    // The login can use its own database and no other.
    session.run("drop schema public cascade; create schema public; create table again (n int)");
    assert!(session.try_run(&format!("alter database {database} rename to mine")).is_err());
    let crossed = lease["url"].as_str().unwrap().replace(database, sibling["database"].as_str().unwrap());
    assert!(Session::try_open(&crossed).is_err(), "a login can connect to the database of another lease");
    assert_eq!(Session::of(&sibling).text("current_setting('search_path')"), "app, public");
    for lease in [&lease, &sibling] {
        api.release(lease);
    }
    daemon.stop();
}

/// Regression: the default privileges of a dump were those of its owner, so that what tests make had no grants.
#[test]
fn dump_of_another_owner_gives_its_default_privileges_to_what_tests_make() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let name = pool_name("dumped");
    let (reader, owner) = (format!("{name}_reader"), format!("{name}_of_dump"));
    let mut boss = cluster.superuser("postgres");
    boss.run("create database development");
    boss.run(&format!("create role {owner}"));
    boss.run(&format!("create role {reader}"));
    let mut development = cluster.superuser("development");
    development.run(&format!(
        "create schema app authorization {owner}; set role {owner}; create table app.item (n int); \
         alter default privileges for role {owner} grant select on tables to {reader}"
    ));
    let dump = cluster.dump("development");
    assert!(dump.contains(&format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} ")), "{dump}");
    // The owner is unknown here, and the daemon creates the pool's roles itself.
    for role in [&owner, &reader] {
        boss.run(&format!("alter role {role} rename to {role}_gone"));
    }
    // As Rails keeps it: without the comments at the beginning, and written by a newer pg_dump.
    let start = dump.find("SET statement_timeout").unwrap();
    let restrict = dump.lines().find(|line| line.starts_with("\\restrict ")).unwrap_or_default();
    place.write(
        "structure.sql",
        &format!("{restrict}\n{}", &dump[start..]).replace("SET lock", "SET transaction_timeout = 0;\nSET lock"),
    );
    place.write("pgdibs.toml", &pool(&name, &format!("roles = [\"{reader}\"]"), "sql_file = \"structure.sql\""));
    let daemon = place.start(&[]);
    let api = daemon.api.clone();
    until("the pool exists", || match api.get("/v1/pools") {
        answer if answer.body["pools"].as_array().is_some_and(|pools| pools.len() == 1) => Ok(()),
        answer => Err(answer.body.to_string()),
    });
    let lease = api.lease(&json!({"pool": name, "wait_seconds": 60}));
    let mut tenant = Session::of(&lease);
    tenant.run("create table made_by_test (n int)");
    assert_eq!(tenant.text(&format!("select has_table_privilege('{reader}', 'made_by_test', 'select')")), "true");
    assert_eq!(
        tenant.text("select relowner = current_user::regrole from pg_class where oid = 'app.item'::regclass"),
        "true"
    );
    drop(tenant);
    api.release(&lease);
    daemon.stop();
}

/// Regression: what a migration set with `alter role current_user set` was lost, and with `… in database` the next file did not have it.
#[test]
fn role_settings_of_migrations_reach_next_file_and_clones() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let [kept, refused] = ["kept", "refused"].map(pool_name);
    let first = "create schema app; create schema \"odd, one\"; alter role current_user set search_path = app, \"odd, one\", public;\n\
                 alter user current_user set intervalstyle = 'iso_8601';\n";
    place.write("db/1.sql", first);
    place.write(
        "db/2.sql",
        "create table t (style text, memory text);\n\
         select format('alter role %I in database %I set work_mem = %L', current_user, current_database(), '9MB') \\gexec\n",
    );
    place.write(
        "db/3.sql",
        "insert into app.t values (current_setting('intervalstyle'), current_setting('work_mem'));\n\
         do $$ begin execute format('alter role current_user in database %I set work_mem = %L', current_database(), '11MB'); end $$;\n",
    );
    place.write(
        "database.sql",
        "do $$ begin\n  execute format('alter database %I set search_path = app', current_database());\nend $$;\n",
    );
    let toml = [pool(&kept, "", "sql_dir = \"db\""), pool(&refused, "", "sql_file = \"database.sql\"")];
    place.write("pgdibs.toml", &toml.concat());
    let daemon = place.start(&[]);
    let api = daemon.api.clone();
    until("the pools exist", || match api.get("/v1/pools") {
        answer if answer.body["pools"].as_array().is_some_and(|pools| pools.len() == 2) => Ok(()),
        answer => Err(answer.body.to_string()),
    });
    let shown = "select concat_ws('|', style, memory, current_setting('search_path'), current_setting('intervalstyle'), current_setting('work_mem')) from t";
    assert_eq!(found(&api, &kept, shown).1, "iso_8601|9MB|app, \"odd, one\", public|iso_8601|11MB");
    // The next template has none of the settings of this one.
    place.write("db/1.sql", "create schema app; alter role current_user set intervalstyle = 'sql_standard'");
    place.write("db/2.sql", "create table app.t (style text, memory text)");
    place.write("db/3.sql", "select 1");
    let shown =
        "select current_setting('search_path') || current_setting('intervalstyle') || current_setting('work_mem')";
    assert_eq!(found(&api, &kept, shown).1, "\"$user\", publicsql_standard4MB");
    let answer = api.post("/v1/leases", &json!({"pool": refused, "wait_seconds": 30}));
    let sentence = answer.refused(422, "template_failed");
    let hint = "(SQLSTATE 42501); the database belongs to pgdibs, and its name differs in each clone: write `alter role current_user set ...`";
    assert!(
        sentence.contains("database.sql, line 3: must be owner of database") && sentence.contains(hint),
        "{sentence}"
    );
    daemon.stop();
}
