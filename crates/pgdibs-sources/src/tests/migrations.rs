//! Tests of directories of migrations: which files run, in which order, and which directories are refused.

use std::fs;
use std::path::Path;

use super::super::inputs::sql_files;
use super::super::{Source, SourceFingerprint, SourceKind};
use super::{CONTEXT, source};

fn directory(base: &Path, files: &[&str]) -> Source {
    for name in files {
        let path = base.join("db").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("select '{name}';\n")).unwrap();
    }
    source(SourceKind::SqlDir(base.join("db")), base)
}

/// The files that run, in order, below the directory.
fn run(files: &[&str]) -> Result<Vec<String>, String> {
    let base = tempfile::tempdir().unwrap();
    let source = directory(base.path(), files);
    let shown = base.path().display().to_string();
    let names = |file: &Path| file.strip_prefix(base.path().join("db")).unwrap().display().to_string();
    let run = sql_files(&source).map(|files| files.iter().map(|file| names(file)).collect());
    run.map_err(|error| error.to_string().replace(&shown, "BASE"))
}

#[test]
fn migrations_run_in_the_order_of_their_tool() {
    for expected in [
        // golang-migrate and sqlx; the order of sqlc's bug report about golang-migrate.
        &["9_bar.up.sql", "10_foo.up.sql"][..],
        // Flyway; the order of Atlas's bug report about it.
        &["V1__.sql", "V1.7__.sql", "V1_10__x.sql", "V2__b.sql", "V10__a.sql"],
        // Omnigres's bug report.
        &["1_config.sql", "2_functions.sql", "3_create_functions.sql", "12_test_sorting.sql"],
        // sql-migrate's bug report.
        &["migration_0.sql", "migration_1.sql", "migration_2.sql", "migration_10.sql"],
        &["1.sql", "2.sql", "10.sql", "B.sql", "a-1.sql", "a.sql"],
        &["1_a.sql", "1.1_b.sql", "1.10_c.sql", "2_d.sql", "schema.sql", "seed.sql"],
        &["0001_a.sql", "02_b.sql", "3_c.sql", "20240101_d.sql", "20240101120000_e.sql", "20240102000000_f.sql"],
        &["2024-01-01_b.sql", "2024-01-02_a.sql", "2024-10-01_a.sql"],
        &["10_tables.sql", "10_views.sql"],
        &["v1_a.sql", "v2_b.sql", "v10_c.sql"],
        &["1_ä.sql", "1_ö.sql"],
        &["01_a.sql", "1_a.sql"],
        &["7_warm_up.sql", "8_shut_down.sql"],
        &["1_schema.sql", "2_data.sql.gz", "10_more.sql"],
        // Prisma; then Diesel and Hasura.
        &["20240101000000_init/migration.sql", "20240102000000_more/migration.sql"],
        &["2_x/up.sql", "10_y/up.sql"],
    ] {
        let mut reversed = expected.to_vec();
        reversed.reverse();
        assert_eq!(run(&reversed).unwrap(), expected);
    }
}

#[test]
fn only_the_half_of_a_pair_that_makes_the_change_runs() {
    for (given, expected) in [
        (&["1_a.up.sql", "1_a.down.sql", "2_b.up.sql", "2_b.down.sql"][..], &["1_a.up.sql", "2_b.up.sql"][..]),
        (&["1_a.do.sql", "1_a.undo.sql"], &["1_a.do.sql"]),
        (&["20240101-a-up.sql", "20240101-a-down.sql"], &["20240101-a-up.sql"]),
        (&["1_up.sql", "1_down.sql"], &["1_up.sql"]),
        (&["1_up.sql.gz", "1_down.sql"], &["1_up.sql.gz"]),
        (&["1_a.up.sql.gz", "1_a.down.sql.gz"], &["1_a.up.sql.gz"]),
        (&["1_a.sql", "1_a.down.sql"], &["1_a.sql"]),
        (&["0001.a.sql", "0001.a.rollback.sql"], &["0001.a.sql"]),
        (&["1_x/up.sql", "1_x/down.sql", "2_y/up.sql"], &["1_x/up.sql", "2_y/up.sql"]),
        // A folder of other files beside migrations, as before.
        (&["1_a.sql", "down/1_a.sql", "seeds/x.sql"], &["1_a.sql"]),
    ] {
        assert_eq!(run(given).unwrap(), expected, "{given:?}");
    }
}

#[test]
fn unclear_directories_are_refused() {
    let mixed = |one: &str, other: &str| {
        format!(
            "the directory BASE/db mixes two naming conventions of migrations, so their order is unknown: {one} and {other}; "
        )
    };
    let same = |one: &str, other: &str| format!("BASE/db/{one} and {other} have the same version, ");
    let flyway = |name: &str| format!("BASE/db/{name} is an undo, repeatable or baseline file of Flyway ");
    for (files, sentence) in [
        (&["1_a.up.sql", "1_a.down.sql", "2_b.sql"][..], mixed("1_a.up.sql", "2_b.sql")),
        (&["V1__a.sql", "seed.sql"], mixed("V1__a.sql", "seed.sql")),
        (&["V1__a.sql", "afterMigrate.sql"], mixed("V1__a.sql", "afterMigrate.sql")),
        (&["V1__a.sql", "more/V2__b.sql"], mixed("V1__a.sql", "more/V2__b.sql")),
        (&["1_a.sql", "2_b/up.sql"], mixed("1_a.sql", "2_b/up.sql")),
        (&["1_a/up.sql", "1_a/migration.sql"], mixed("1_a/up.sql", "1_a/migration.sql")),
        (&["1_a.up.sql", "1_b.up.sql"], same("1_a.up.sql", "1_b.up.sql")),
        (&["V1__a.sql", "V1.0__b.sql"], same("V1__a.sql", "V1.0__b.sql")),
        (&["V1_1__a.sql", "V01.1__b.sql"], same("V1_1__a.sql", "V01.1__b.sql")),
        (&["V1__a.sql", "R__views.sql"], flyway("R__views.sql")),
        (&["V1__a.sql", "U1__a.sql"], flyway("U1__a.sql")),
        (&["V3__a.sql", "B2__a.sql"], flyway("B2__a.sql")),
        (&["1_a.down.sql"], "the directory BASE/db has only files that take a migration back".to_owned()),
        (
            &["1_a/up.sql", "2_b/run.sql"],
            "BASE/db/2_b/run.sql is not understood: in a directory with a folder for each migration, a folder has up.sql or ".to_owned(),
        ),
        (
            &["down/1.sql", "up/1.sql"],
            "there are no *.sql files in the directory BASE/db (sql_dir) (its subdirectory `up` has some); ".to_owned(),
        ),
        (
            &["default/one.sql"],
            "there are no *.sql files in the directory BASE/db (sql_dir) (its subdirectory `default` has some); ".to_owned(),
        ),
    ] {
        let refused = run(files).unwrap_err();
        assert!(refused.starts_with(&sentence), "{files:?}: {refused}");
    }
    let refused = run(&["V1__a.sql", "R__views.sql"]).unwrap_err();
    assert!(
        refused
            .contains("; let Flyway build the template: replace sql_dir by command = [\"sh\", \"-c\", 'flyway -url=")
    );
    assert!(refused.ends_with(" migrate'] and inputs = [\"db/**\"]"), "{refused}");
}

#[test]
fn files_with_marks_of_a_tool_are_refused_with_its_command() {
    let base = tempfile::tempdir().unwrap();
    let migrations = directory(base.path(), &["2_plain.sql"]);
    for (text, line, tool, command) in [
        (
            "-- migrate:up\ncreate table users ();\n\n-- migrate:down\ndrop table users;\n",
            1,
            "dbmate",
            "[\"dbmate\", \"--no-dump-schema\", \"--migrations-dir\", \"db\", \"up\"], env = { PGSSLMODE = \"disable\" }",
        ),
        (
            "\u{feff}-- +goose Up\r\nselect 1;\r\n",
            1,
            "goose",
            "[\"sh\", \"-c\", 'goose -dir db postgres \"$DATABASE_URL\" up']",
        ),
        ("select 1;\n  --  +goose Down\n", 2, "goose", "[\"sh\", \"-c\", 'goose -dir db "),
        ("-- +migrate Up notransaction\n", 1, "sql-migrate", "[\"sql-migrate\", \"up\"]"),
        ("-- +micrate Up\n", 1, "micrate", "[\"micrate\", \"up\"]"),
        ("-- // First.\n\nselect 1;\n-- //@UNDO\n", 4, "MyBatis Migrations", "[\"migrate\", \"up\"]"),
        ("--//@UNDO\n", 1, "MyBatis Migrations", "[\"migrate\", \"up\"]"),
        ("--liquibase formatted sql\n", 1, "Liquibase", "[\"sh\", \"-c\", 'liquibase --url="),
        ("-- rambler up\n", 1, "rambler", "[\"rambler\", \"apply\", \"--all\"]"),
        (
            "-- Up Migration\nselect 1;\n-- Down Migration\n",
            1,
            "node-pg-migrate",
            "[\"npx\", \"node-pg-migrate\", \"up\", \"--migrations-dir\", \"db\"]",
        ),
        (
            "select 1;\n---- create above / drop below ----\n",
            2,
            "tern",
            "[\"tern\", \"migrate\", \"--migrations\", \"db\"]",
        ),
        ("-- ==== UP ====\n", 1, "shmig", "[\"shmig\", \"up\"]"),
        ("-- upgrade --\n", 1, "aerich", "[\"aerich\", \"upgrade\"]"),
        (
            "-- atlas:txtar\n",
            1,
            "Atlas",
            "[\"sh\", \"-c\", 'atlas migrate apply --dir \"file://db\" --url \"$DATABASE_URL\"']",
        ),
        ("--! include functions/f.sql\n", 1, "graphile-migrate", "[\"graphile-migrate\", \"migrate\"]"),
        ("-- Deploy shop:users to pg\n", 1, "Sqitch", "[\"sqitch\", \"deploy\", \"db:pg:\"]"),
        ("# --- !Ups\n", 1, "Play evolutions", "["),
        ("-- !Downs\n", 1, "Play evolutions", "["),
        (
            "-- Up\ncreate table t ();\n\n-- Down\ndrop table t;\n",
            4,
            "a migration tool",
            "[\"THE COMMAND OF THAT TOOL\"]",
        ),
        ("-- @DOWN\n", 1, "a migration tool", "["),
    ] {
        fs::write(base.path().join("db/1_users.sql"), text).unwrap();
        let refused = sql_files(&migrations).unwrap_err().to_string();
        let begin = format!("{}/db/1_users.sql, line {line}: `", base.path().display());
        assert!(refused.starts_with(&begin), "{refused}");
        assert!(refused.contains(&format!("` is a mark of {tool} in its migrations, ")), "{refused}");
        assert!(
            refused.contains(&format!("let {tool} build the template: replace sql_dir by command = {command}")),
            "{refused}"
        );
        assert!(refused.contains(" and inputs = [\"db/**\"]"), "{refused}");
        // Before a build: an acquire gets the sentence at once.
        let current = SourceFingerprint::new(migrations.clone()).current(&CONTEXT);
        assert_eq!(current.unwrap_err().to_string(), refused);
        let file = source(SourceKind::SqlFile(base.path().join("db/1_users.sql")), base.path());
        assert!(sql_files(&file).unwrap_err().to_string().contains("replace sql_file by command"));
    }
}

#[test]
fn text_that_resembles_marks_is_no_mark() {
    let base = tempfile::tempdir().unwrap();
    let migrations = directory(base.path(), &[]);
    fs::create_dir_all(base.path().join("db")).unwrap();
    for text in [
        "create function f() returns text language sql as $$ select '\n-- migrate:down\n' $$;\n",
        "/*\n-- +goose Down\n*/\nselect 1;\n",
        "copy t from stdin;\n-- migrate:up\n\\.\n",
        "-- Up migration of the colours\n-- Deploy with care\nselect 1; -- migrate:up\n",
        "-- up\n-- down the list\n-- the goose went up\n--> statement-breakpoint\n",
    ] {
        fs::write(base.path().join("db/1.sql"), text).unwrap();
        assert_eq!(sql_files(&migrations).unwrap().len(), 1, "{text}");
    }
}

/// Only what runs counts, and its order.
#[test]
fn fingerprint_depends_on_the_files_that_run_and_their_order() {
    let base = tempfile::tempdir().unwrap();
    let source = directory(base.path(), &["1_a.up.sql", "1_a.down.sql"]);
    let mut fingerprints = SourceFingerprint::new(source);
    let first = fingerprints.current(&CONTEXT).unwrap();
    fs::write(base.path().join("db/1_a.down.sql"), "drop table x;").unwrap();
    fs::write(base.path().join("db/2_b.down.sql"), "drop table x;").unwrap();
    assert_eq!(fingerprints.current(&CONTEXT).unwrap(), first, "a file that never runs counts");
    fs::write(base.path().join("db/2_b.up.sql"), "create table x ();").unwrap();
    assert_ne!(fingerprints.current(&CONTEXT).unwrap(), first);
    fs::remove_file(base.path().join("db/2_b.up.sql")).unwrap();
    fs::write(base.path().join("db/1_a.up.sql"), "-- migrate:up\n").unwrap();
    assert!(fingerprints.current(&CONTEXT).is_err());
    fs::write(base.path().join("db/1_a.up.sql"), "select '1_a.up.sql';\n").unwrap();
    assert_eq!(fingerprints.current(&CONTEXT).unwrap(), first);
}
