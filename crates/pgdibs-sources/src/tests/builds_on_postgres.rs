//! Tests of builds in a real database: SQL files in order, a dump, a command, errors.

use std::fs;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use super::super::{BuildFailure, BuildPlan, BuildReport, BuildTarget, DatabaseCopy, Source, SourceKind, build, plan};
use super::server::TestServer;
use super::{PASSWORD, source, unreachable_target};

async fn built(source: &Source, target: &BuildTarget) -> Result<BuildReport, BuildFailure> {
    build(source, plan(source)?, target, Duration::from_secs(60), CancellationToken::new()).await
}

fn sql_dir(base: &Path, files: &[(&str, &str)]) -> Source {
    fs::create_dir_all(base.join("db")).unwrap();
    for (name, content) in files {
        fs::write(base.join("db").join(name), content).unwrap();
    }
    source(SourceKind::SqlDir(base.join("db")), base)
}

#[tokio::test]
async fn sql_dir_runs_in_order_outside_transaction() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    let files = [
        (
            "01_table.sql",
            "create type colour as enum ('red');\ncreate table t (n int generated always as identity, what text);\n",
        ),
        (
            "02_begin.sql",
            "begin; insert into t (what) values ('second'); commit;\nalter type colour add value 'blue';\nselect 'blue'::colour;\n",
        ),
        (
            "03_index.sql",
            "create index concurrently t_what on t (what);\ninsert into t (what) values (current_setting('my.word'));\n",
        ),
        ("10_last.sql", "insert into t (what) values ('fourth') returning n;\n\\ir included.txt\n"),
        ("included.txt", "insert into t (what) values ('fifth');\n"),
    ];
    let mut given = sql_dir(base.path(), &files);
    given.env = [("PGOPTIONS".to_owned(), "-c my.word=third".into())].into();
    let target = server.target("build_dir");
    let report = built(&given, &target).await.unwrap();
    let BuildPlan::SqlFiles(run) = &report.plan else { panic!("{report:?}") };
    assert_eq!((run.len(), plan(&given).unwrap()), (4, report.plan.clone()));
    let rows = server.query("build_dir", "select string_agg(n || what, ' ' order by n) from t");
    assert_eq!(rows, "1second 2third 3fourth 4fifth");
}

#[tokio::test]
async fn dump_with_copy_and_restrict_is_restored() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    server.target("dump_from");
    server.query(
        "dump_from",
        "create schema shop; create table shop.item (id int primary key, name text, note text); \
         insert into shop.item select n, 'näme ' || n, case when n % 2 = 0 then E'tab\\tand\\nline \\\\.' end from generate_series(1, 500) n; \
         create function shop.count() returns bigint language sql as $$ select count(*) from shop.item; $$; \
         create view shop.even as select * from shop.item where note is not null;",
    );
    let dump = base.path().join("dump.sql");
    let made = server.program("pg_dump").args(["--no-owner", "-d", "dump_from", "-f"]).arg(&dump).status().unwrap();
    assert!(made.success());
    let text = fs::read_to_string(&dump).unwrap();
    assert!(text.contains("COPY shop.item"), "the dump has no COPY");
    println!("the dump has \\restrict: {}", text.contains("\n\\restrict "));
    let report = built(&source(SourceKind::SqlFile(dump), base.path()), &server.target("dump_into")).await.unwrap();
    assert!(matches!(&report.plan, BuildPlan::SqlFiles(files) if files.len() == 1));
    let content = "select md5(string_agg(i::text, '|' order by id)), shop.count(), (select count(*) from shop.even) from shop.item i";
    assert_eq!(server.query("dump_into", content), server.query("dump_from", content));
    assert!(server.query("dump_into", content).ends_with("|500|250"));
}

#[tokio::test]
async fn error_in_file_names_line_and_stops_build() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    let files = [
        ("1.sql", "create table a (n int);\n"),
        (
            "2.sql",
            "-- a comment\ninsert into a values (1);\n\ncreate table b (\n  n int,\n  m no_such_type,\n  o int\n);\ncreate table c ();\n",
        ),
        ("3.sql", "create table d ();\n"),
    ];
    let failure = built(&sql_dir(base.path(), &files), &server.target("build_error")).await.unwrap_err();
    assert_eq!(failure.step, "db/2.sql (file 2 of 3, in the order of their names, versions by value)");
    let expected = format!(
        "{}/db/2.sql, line 6: type \"no_such_type\" does not exist (SQLSTATE 42704)\nLINE 3:   m no_such_type,\n            ^\n\
         in the statement (lines 4 to 8):\ncreate table b (\n  n int,\n  m no_such_type,\n  o int\n);",
        base.path().display()
    );
    assert_eq!(failure.detail, expected);
    assert!(!failure.timed_out && !failure.cancelled);
    let there = "select string_agg(relname, ',' order by relname) from pg_class where relname in ('a', 'b', 'c', 'd')";
    assert_eq!(server.query("build_error", there), "a", "statements after the error ran");
}

#[tokio::test]
async fn errors_of_copy_psql_login_and_timeout_have_reasons() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    let target = server.target("build_errors");
    let mut number = 0;
    let mut failing = |text: &str| {
        number += 1;
        let file = base.path().join(format!("{number}.sql"));
        fs::write(&file, text).unwrap();
        source(SourceKind::SqlFile(file), base.path())
    };
    let copy = built(&failing("create table t (n int);\ncopy t from stdin;\n1\nx\n\\.\n"), &target).await.unwrap_err();
    assert_eq!(copy.step, "1.sql");
    assert!(
        copy.detail.contains("1.sql, line 5: invalid input syntax for type integer: \"x\" (SQLSTATE 22P02)"),
        "{}",
        copy.detail
    );
    assert!(copy.detail.contains("CONTEXT:  COPY t, line 2, column n: \"x\""), "{}", copy.detail);
    let meta = built(&failing("select 1;\n\\nonsense\n"), &target).await.unwrap_err();
    assert!(meta.detail.ends_with("2.sql, line 2: invalid command \\nonsense"), "{}", meta.detail);
    let secret = built(&failing("do $$ begin raise exception 'it is % here', 'pa/ss w:rd@7f3c'; end $$;\n"), &target)
        .await
        .unwrap_err();
    assert!(secret.detail.contains("it is ******** here (SQLSTATE P0001)"), "{}", secret.detail);
    assert!(!secret.detail.contains("7f3c"), "{}", secret.detail);
    let slow = failing("select pg_sleep(1000);\n");
    let slow = build(&slow, plan(&slow).unwrap(), &target, Duration::from_secs(1), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(slow.timed_out && slow.step == "4.sql", "{slow:?}");

    let refused = BuildTarget { password: "wrong".into(), ..target.clone() };
    let refused = built(&failing("select 1;\n"), &refused).await.unwrap_err();
    assert!(refused.detail.contains("password authentication failed for user \"builder\""), "{}", refused.detail);

    let missing = built(&failing("select 1;\n"), &unreachable_target()).await.unwrap_err();
    assert!(missing.detail.starts_with("SQL sources need psql, and there is no /nonexistent/psql; install it (Debian, Ubuntu: apt-get install postgresql-client;"), "{}", missing.detail);
    assert!(
        missing.detail.ends_with("or set pg_bin_dir (PGDIBS_PG_BIN_DIR) to the directory that has it"),
        "{}",
        missing.detail
    );
    let none = built(&source(SourceKind::SqlDir(base.path().join("none")), base.path()), &target).await.unwrap_err();
    assert!(none.step == "inputs" && none.detail.starts_with("there are no *.sql files in the directory "), "{none:?}");
}

#[tokio::test]
async fn command_connects_with_its_variables() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    let psql = server.bin.join("psql").display().to_string();
    let script = format!(
        "{psql} -X -c 'create table by_variables ()' && {psql} -X \"$DATABASE_URL\" -c 'create table by_url ()'"
    );
    let argv = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let target = server.target("build_command");
    let report = built(&source(SourceKind::Command(argv), base.path()), &target).await.unwrap();
    assert!(report.log.contains("CREATE TABLE\n") && report.took < Duration::from_secs(60));
    let there = "select string_agg(relname, ',' order by relname) from pg_class where relname like 'by\\_%'";
    assert_eq!(server.query("build_command", there), "by_url,by_variables");
}

/// Regression: one event trigger, publication or foreign server made the copy fail; comments and grants were lost silently.
#[tokio::test]
async fn database_is_copied_without_what_cannot_be() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    server.target("seed");
    server.query(
        "seed",
        "create role seed_reader; create table item (n int primary key, what text); insert into item values (1, E'a\\tb'); \
         comment on table item is 'for sale'; comment on column item.what is 'in words'; grant select on item to seed_reader; \
         revoke execute on function pg_catalog.pg_sleep(double precision) from public; \
         alter default privileges grant select on tables to seed_reader; \
         create foreign data wrapper w; create server elsewhere foreign data wrapper w; \
         create user mapping for builder server elsewhere; create foreign table remote (n int) server elsewhere; \
         comment on foreign table remote is 'there'; create view of_remote as select n from remote; \
         grant select on remote, of_remote to seed_reader; create publication p for table item; \
         create function watch() returns event_trigger language plpgsql as 'begin end'; \
         create event trigger watcher on ddl_command_end execute function watch()",
    );
    let oid = server.query("seed", "select 'of_remote'::regclass::oid::int8").parse().unwrap();
    let login = [
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGPORT", server.port()),
        ("PGUSER", "builder".to_owned()),
        ("PGPASSWORD", PASSWORD.to_owned()),
        ("PGDATABASE", "seed".to_owned()),
    ];
    let login = login.map(|(name, value)| (name, value.into())).to_vec();
    let copied = DatabaseCopy { name: "seed".to_owned(), template: 1, login, left_out: [(1259, oid)].into() };
    let target = server.target("copy_of_seed");
    let url = target.url.expose_secret().replace("builder:", "plain:").into();
    let target = BuildTarget { copied: Some(copied), user: "plain".to_owned(), url, ..target };
    server.query("postgres", &format!("create role plain login password '{PASSWORD}'"));
    server.query("copy_of_seed", "alter schema public owner to plain");
    let report = built(&source(SourceKind::Database("seed".to_owned()), base.path()), &target).await.unwrap();
    assert_eq!(report.plan, BuildPlan::CopyOf("seed".to_owned()));
    let found = "select concat(n, what, obj_description('item'::regclass), col_description('item'::regclass, 2)
                , has_table_privilege('seed_reader', 'item', 'select'), to_regclass('remote') is null
                , (select count(*) from pg_event_trigger), (select count(*) from pg_publication)) from item";
    assert_eq!(server.query("copy_of_seed", found), "1a\tbfor salein wordstt00");
    let defaults =
        "set role plain; create table made (n int); select has_table_privilege('seed_reader', 'made', 'select')";
    assert_eq!(server.query("copy_of_seed", defaults), "t");
    assert_eq!(report.warnings, ["no privileges could be revoked for \"pg_sleep\""], "{}", report.log);
}
