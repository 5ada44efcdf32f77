//! Tests of what psql does with a file without an error: open transactions, an early end, and included files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::inputs::sql_files;
use super::super::psql_text::{Item, PsqlText};
use super::super::{Source, SourceFingerprint, SourceKind, build, plan};
use super::server::TestServer;
use super::{CONTEXT, source};

fn file(base: &Path, text: &str) -> Source {
    fs::create_dir_all(base.join("db")).unwrap();
    fs::write(base.join("db/main.sql"), text).unwrap();
    source(SourceKind::SqlFile(base.join("db/main.sql")), base)
}

/// Regression: psql rolled the statements back, exited with 0, and the template was sealed without them.
#[tokio::test]
async fn file_that_ends_inside_transaction_fails_at_its_begin() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    let target = server.target("transactions");
    fs::create_dir(base.path().join("db")).unwrap();
    fs::write(base.path().join("db/part.sql"), "-- opens\nbegin;\n").unwrap();
    fs::write(base.path().join("db/closing.sql"), "commit;\n").unwrap();
    let still = "the transaction that begins here is still open at the end of the file, so Postgres rolls it back; add `commit;`";
    for (text, file_name, line) in [
        ("create table users_of (id int);\nBEGIN;\ncreate table users (id int);\n", "main.sql", 2),
        // Supabase's bug report: a file that ends the transaction of its tool and begins another.
        ("create type colour as enum ();\nCOMMIT;\nBEGIN;\nalter type colour add value 'red';\n", "main.sql", 3),
        ("create table b ();\n\nbegin", "main.sql", 3),
        ("/* a\ncomment */ start\n  transaction isolation level serializable;\nselect 1;\n", "main.sql", 2),
        ("begin;\nsavepoint s;\nrollback to savepoint s;\nrelease savepoint s;\n", "main.sql", 1),
        ("begin;\nselect 1;\nrollback and chain;\nselect 1;\n", "main.sql", 3),
        ("begin;\nselect 1;\ncommit and no chain;\nselect 1 \\; begin \\; select 2;\n", "main.sql", 4),
        ("select 1;\nbegin \\g\nselect 1;\n", "main.sql", 2),
        ("\\ir part.sql\ncreate table e ();\n", "part.sql", 2),
        ("\\c -\nbegin;\n", "main.sql", 2),
        ("begin;\ncreate or replace function f() returns int begin atomic select 1; end;\n", "main.sql", 1),
    ] {
        let source = file(base.path(), text);
        let failure =
            build(&source, plan(&source).unwrap(), &target, Duration::from_secs(60), CancellationToken::new());
        let detail = failure.await.expect_err(text).detail;
        assert_eq!(detail, format!("{}/db/{file_name}, line {line}: {still}", base.path().display()), "{text}");
    }
    for (text, sentence) in [
        ("\\set AUTOCOMMIT off\ncreate table c ();\n", "db/main.sql: a transaction is open at the end of the file, "),
        ("select 'begin' \\gexec\ncreate table d ();\n", "db/main.sql: a transaction is open at the end of the file, "),
        ("\\set ON_ERROR_STOP off\nbegin;\nselect 1/0;\n", "db/main.sql, line 3: division by zero (SQLSTATE 22012)"),
        ("\\set VERBOSITY terse\nbegin;\n", "psql failed with exit code 1; its last lines:\n"),
    ] {
        let source = file(base.path(), text);
        let failure =
            build(&source, plan(&source).unwrap(), &target, Duration::from_secs(60), CancellationToken::new());
        let detail = failure.await.expect_err(text).detail;
        assert!(detail.contains(sentence), "{detail}");
    }
    for text in [
        "begin;\ncreate table kept (n int);\ncommit;\nbegin;\ncreate table undone ();\nrollback;\n",
        "begin;\ncreate table h ();\nend \\g\n",
        "begin;\n\\ir closing.sql\n",
        "create function g() returns int begin atomic select case when true then 1 end; end;\n",
        "do $$ begin perform 1; end $$;\n",
        "\\c -\ninsert into kept values (1);\n",
        "\\set AUTOCOMMIT off\ninsert into kept values (2);\ncommit;\n",
        "\\unset QUIET\ninsert into kept values (4);\n",
        "create temporary table t (n int);\nset session characteristics as transaction read only;\n",
    ] {
        let source = file(base.path(), text);
        let built = build(&source, plan(&source).unwrap(), &target, Duration::from_secs(60), CancellationToken::new());
        built.await.unwrap_or_else(|failure| panic!("{text}: {}", failure.detail));
    }
    assert_eq!(server.query("transactions", "select sum(n), to_regclass('undone') is null from kept"), "7|t");
}

/// Regression: `\q` ended a file, psql exited with 0, and the template was sealed without the rest.
#[test]
fn command_that_ends_file_early_is_refused_with_its_line() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("db")).unwrap();
    fs::write(base.path().join("db/part.sql"), "select 1;\n\\q\nselect 2;\n").unwrap();
    let quit = "ends the file here without an error, so psql skips the rest of it; remove it";
    for (text, place) in [
        ("create table a ();\n\\q\ncreate table b ();\n", format!("main.sql, line 2: `\\q` {quit}")),
        // The first line of the scripts of extensions.
        (
            "\\echo Use \"CREATE EXTENSION pair\" to load this file. \\quit\ncreate type pair as (k text, v text);\n",
            format!("main.sql, line 1: `\\quit` {quit}"),
        ),
        ("select 1 \\q\nselect 2;\n", format!("main.sql, line 1: `\\q` {quit}")),
        ("\\ir part.sql\n", format!("part.sql, line 2: `\\q` {quit}")),
        (
            "begin;\ncreate table a ();\n\\c -\ncommit;\n",
            "main.sql, line 3: `\\c` ends the session, and with it the transaction that begins in line 1, which is rolled back; add \
             `commit;` before it"
                .to_owned(),
        ),
    ] {
        let source = file(base.path(), text);
        let expected = format!("{}/db/{place}", base.path().display());
        assert_eq!(sql_files(&source).unwrap_err().to_string(), expected, "{text}");
        assert_eq!(SourceFingerprint::new(source).current(&CONTEXT).unwrap_err().to_string(), expected);
    }
    for text in [
        "create table a ();\n\\q\n-- nothing follows\n",
        "\\if :{?never}\n\\quit\n\\endif\nselect 1;\n",
        "select '\n\\q\n';\ncopy t from stdin;\n\\q\n\\.\n/*\n\\q\n*/\n-- \\q\nselect 1;\n",
        "\\copy t from stdin\n\\q\n\\.\nselect 1;\n",
        "\\! echo \\q\nselect 1;\n",
        "\\echo '\\\\q'\nselect 1;\n",
    ] {
        sql_files(&file(base.path(), text)).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// Regression: a change of an included file built no new template.
#[test]
fn included_files_are_inputs() {
    let base = tempfile::tempdir().unwrap();
    for directory in ["db/parts", "work"] {
        fs::create_dir_all(base.path().join(directory)).unwrap();
    }
    let text = "\\ir parts/one.sql\n\\include 'by directory.sql';\n\\if :x\n\\ir parts/late.sql\n\\endif\n\\i :file\n\\i `ls`\n\
                \\copy t (n) from 'seed.csv' csv\n\\copy u from stdin\n\\ir db/never.sql\n\\.\n\\copy (select n from v) to out.csv\n\
                \\copy w from program 'cat x'\n\\i /dev/stdin\n\\ir parts\n";
    let mut source = file(base.path(), text);
    source.directory = base.path().join("work");
    let write = |name: &str, text: &str| fs::write(base.path().join(name), text).unwrap();
    write("db/parts/one.sql", "\\include_relative two.sql\n\\ir ../main.sql\n");
    write("db/parts/two.sql", "select 2;\n");
    write("work/by directory.sql", "select 3;\n");
    write("work/seed.csv", "-- migrate:up\n1\n\\q\n2\n");
    let mut fingerprints = SourceFingerprint::new(source);
    let mut seen = vec![fingerprints.current(&CONTEXT).unwrap()];
    let mut changes = |name: &str, text: Option<&str>, expected: bool| {
        match text {
            Some(text) => write(name, text),
            None => fs::remove_file(base.path().join(name)).unwrap(),
        }
        let now = fingerprints.current(&CONTEXT).unwrap();
        assert_eq!(!seen.contains(&now), expected, "{name}");
        seen.push(now);
    };
    changes("db/parts/one.sql", Some("\\include_relative two.sql\n"), true);
    changes("db/parts/two.sql", Some("select 22;\n"), true);
    changes("work/by directory.sql", Some("select 33;\n"), true);
    changes("work/seed.csv", Some("1\n"), true);
    changes("db/parts/late.sql", Some("select 4;\n"), true);
    changes("db/parts/late.sql", Some("select 44;\n"), true);
    changes("db/never.sql", Some("select 5;\n"), false);
    changes("work/two.sql", Some("select 6;\n"), false);
    changes("db/parts/two.sql", Some("\\i more.sql\n"), true);
    changes("work/more.sql", Some(""), true);
    changes("work/more.sql", None, false);
    changes("db/parts/two.sql", Some("select 22;\n"), false);
}

#[test]
fn scanner_finds_statements_and_commands() {
    let items = |text: &str| {
        let mut scanner = PsqlText::default();
        let mut all = Vec::new();
        for line in text.split_inclusive('\n') {
            for item in scanner.line(line.as_bytes()) {
                all.push(match item {
                    Item::Statement(statement) => format!("statement of line {}", statement.line),
                    Item::Command(command) => {
                        let arguments =
                            command.arguments.into_iter().map(|argument| argument.unwrap_or("?".to_owned()));
                        format!("{}({})", command.name, arguments.collect::<Vec<_>>().join(", "))
                    }
                });
            }
        }
        all.extend(scanner.unfinished().map(|statement| format!("unfinished of line {}", statement.line)));
        all.join("; ")
    };
    for (text, expected) in [
        ("select 1;\nselect\n2;\n", "statement of line 1; statement of line 2"),
        ("select 1 \\; select 2;", "statement of line 1; statement of line 1"),
        ("select 1 \\gset a_\nselect 2", "statement of line 1; gset(a_); unfinished of line 2"),
        ("select 1 \\r\nselect 2;\n", "r(); statement of line 2"),
        ("\\set x 'a ''b'' c'd :y\n", "set(x, a 'b' cd, ?)"),
        ("\\echo a\\echo b \\\\ select 1;\n", "echo(a); echo(b); statement of line 1"),
        ("\\! echo ; \\q\n\\copy t from x;\n", "!(echo ; \\q); copy(t from x;)"),
        ("\\copy t from STDIN\nselect 1;\n\\.\nselect 1;\n", "copy(t from STDIN); statement of line 4"),
        ("\u{feff}begin;\n", "statement of line 1"),
        (
            "create procedure p() begin atomic select case when a then b end; select 1; end;\nselect 1;\n",
            "statement of line 1; statement of line 2",
        ),
        ("create function f() returns int return (select 1); end;\n", "statement of line 1; statement of line 1"),
        ("\\restrict a'b\"c$$\nselect 1;\n", "restrict(ab\"c$$); statement of line 2"),
        ("select :'x', ':y', a[1:2];\n", "statement of line 1"),
        ("\\\n\\ \n", "(); ()"),
    ] {
        assert_eq!(items(text), expected, "{text}");
    }
}
