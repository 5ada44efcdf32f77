//! Tests of captured output and of the format of psql's errors.

use super::super::capture::{Capture, KEPT_BYTES, SHOWN_BYTES, SHOWN_LINES};
use super::super::psql_report::sentence;

fn captured(parts: &[&[u8]]) -> Capture {
    let mut capture = Capture::of_psql();
    parts.iter().for_each(|part| capture.push(part));
    capture
}

#[test]
fn last_lines_are_shown_and_earlier_ones_counted() {
    assert_eq!(captured(&[b"a\nb", b"c\n"]).last_lines(&[]), "a\nbc");
    let many: String = (1..=100).map(|number| format!("line {number}\n")).collect();
    let capture = captured(&[many.as_bytes()]);
    let shown = capture.last_lines(&[]);
    assert!(shown.starts_with("(60 earlier lines left out)\nline 61\n") && shown.ends_with("line 100"), "{shown}");
    assert_eq!(shown.lines().count(), SHOWN_LINES + 1);
    assert_eq!((capture.line_count(), capture.bytes()), (100, many.len() as u64));
    assert_eq!(captured(&[b"no newline"]).line_count(), 1);
    assert_eq!(captured(&[b"10%\r20%\r\n\x1b[31mred\x07\xff\n"]).last_lines(&[]), "10%\n20%\n[31mred\u{fffd}");
}

#[test]
fn capture_memory_is_bounded_for_any_lines() {
    for line in ["x".repeat(1 << 16), "y\n".repeat(1 << 15), format!("{}\n", "psql:f:1: ERROR: z".repeat(3000))] {
        let mut capture = Capture::of_psql();
        for _ in 0..500 {
            capture.push(line.as_bytes());
        }
        assert!(capture.held() < 8 * KEPT_BYTES, "{}", capture.held());
        assert!(capture.last_lines(&[]).len() <= SHOWN_BYTES + 100);
        assert!(capture.text(&[]).len() > 2 * KEPT_BYTES);
        assert_eq!(capture.bytes(), 500 * line.len() as u64);
    }
}

/// Regression: half of a password stayed where the output of a build was truncated.
#[test]
fn secrets_are_masked_across_chunks_and_at_truncation() {
    let secrets = ["s3cr3t-s3cr3t".to_owned()];
    let whole = captured(&[b"url postgresql://u:s3cr3t-", b"s3cr3t@h/d\n"]).last_lines(&secrets);
    assert_eq!(whole, "url postgresql://u:********@h/d");
    let error = captured(&[b"psql:f:1: ERROR:  XX000: s3cr3t-s3cr3t\n"]).first_error(&secrets).unwrap();
    assert_eq!(error, "psql:f:1: ERROR:  XX000: ********\n");
    // The kept part begins at every position within the password.
    for shift in 0..13 {
        let mut capture = Capture::of_psql();
        let many = b"s3cr3t-s3cr3t".repeat(1_000);
        capture.push(&b"zzzzzzzzzzzzz"[..shift]);
        while capture.text(&[]).len() as u64 == capture.bytes() {
            capture.push(&many);
        }
        let whole = capture.text(&secrets);
        assert!(!whole.contains("s3cr3t") && !whole.contains("s3c") && !whole.contains("3t\n"), "{shift}");
        capture.push(&b"zzzzzzzzzzzzz"[..shift]);
        let shown = capture.last_lines(&secrets);
        let stars = shown.lines().last().unwrap();
        assert!(stars.chars().all(|c| c == '*' || c == 'z'), "{shift}: {}", &stars[..40]);
        let mut capture = Capture::of_psql();
        capture.push(format!("psql:f:1: ERROR: {}", &"zzzzzzzzzzzzz"[..shift]).as_bytes());
        for _ in 0..20_000 {
            capture.push(b"s3cr3t-s3cr3t");
        }
        let error = capture.first_error(&secrets).unwrap();
        let stars = error.trim_start_matches("psql:f:1: ERROR: ");
        assert!(stars.chars().all(|c| c == '*' || c == 'z'), "{shift}: {stars}");
    }
    let both = ["abc".to_owned(), "abcdef".to_owned()];
    assert_eq!(captured(&[b"abcdef"]).last_lines(&both), "********");
}

#[test]
fn first_error_of_psql_survives_long_statement() {
    let long = format!(
        "NOTICE: x\npsql:/db/1.sql:3: ERROR:  42P01: no table\npsql:/db/1.sql:3: STATEMENT:  {}\n",
        "insert into t values (1);\n".repeat(20_000)
    );
    let parts: Vec<&[u8]> = long.as_bytes().chunks(7).collect();
    let sentence = sentence(&captured(&parts).first_error(&[]).unwrap());
    assert!(
        sentence.starts_with("/db/1.sql, line 3: no table (SQLSTATE 42P01)\nin the statement:\ninsert into"),
        "{sentence}"
    );
    assert!(sentence.len() < 2500 && sentence.contains("more bytes)"));
    assert!(captured(&[b"psql:/db/1.sql:3: NOTICE:  42P07: there\n"]).first_error(&[]).is_none());
}

#[test]
fn psql_errors_have_file_line_and_statement() {
    let cases = [
        (
            "psql:/d/a.sql:10: ERROR:  42704: type \"txt\" does not exist\nLINE 3:   b txt,\n            ^\nLOCATION:  f, x.c:1\n\
             psql:/d/a.sql:10: STATEMENT:  create table u (\n  a int,\n  b txt,\n  c int\n);\n",
            "/d/a.sql, line 8: type \"txt\" does not exist (SQLSTATE 42704)\nLINE 3:   b txt,\n            ^\n\
             in the statement (lines 6 to 10):\ncreate table u (\n  a int,\n  b txt,\n  c int\n);",
        ),
        (
            "psql:/d/b.sql:4: ERROR:  22P02: invalid input syntax for type integer: \"b\"\nCONTEXT:  COPY t, line 2, column a: \"b\"\n\
             LOCATION:  f, x.c:1\npsql:/d/b.sql:4: STATEMENT:  copy t from stdin;\n",
            "/d/b.sql, line 4: invalid input syntax for type integer: \"b\" (SQLSTATE 22P02)\nCONTEXT:  COPY t, line 2, column a: \"b\"\n\
             in the statement:\ncopy t from stdin;",
        ),
        (
            "psql:/d/e.sql:1: error: invalid command \\restrict\n",
            "/d/e.sql, line 1: invalid command \\restrict; a pg_dump newer than this psql wrote the file: set pg_bin_dir to newer programs",
        ),
        ("psql: error: connection refused\n", "psql: error: connection refused"),
    ];
    for (output, expected) in cases {
        assert_eq!(sentence(output), expected);
    }
}

/// Regression: each 42501 had the hint about grants, also that of CREATE ROLE, which the hint's way does not help.
#[test]
fn denied_statement_has_hint_of_its_kind() {
    let by_pool = "list the role under `roles` of the pool, so that pgdibs creates it";
    let superuser = "set `login = \"superuser\"` for the pool";
    for (code, statement, hint) in [
        ("42501", "CREATE ROLE reader;", by_pool),
        ("42501", "create user \"Reader 2\" password 'x';", by_pool),
        ("42710", "CREATE ROLE reader;", by_pool),
        ("42501", "ALTER ROLE reader LOGIN;", "exist before the build without login"),
        ("42704", "alter role reader set work_mem = '1MB';", "exist before the build without login"),
        ("42501", "drop user reader;", "exist before the build without login"),
        ("42501", "grant reader to writer;", "exist before the build without login"),
        ("42501", "GRANT SELECT\nON t TO reader;", "if this is about a role: list it under `roles`"),
        ("42501", "create user mapping for reader server s;", "if this is about a role"),
        ("42501", "ALTER EXTENSION postgis UPDATE;", "creates what `extensions` of the pool lists"),
        ("42501", "alter table app.t owner to writer;", "needs `grant create on schema`"),
        ("42704", "alter table app.t owner to writer;", "if this is about a role"),
        ("42501", "create function f() returns int language c as 'x', 'y';", superuser),
        ("42501", "set session_replication_role = replica;", superuser),
        ("42501", "create server s foreign data wrapper w;", "the pool lists its extension under `extensions`"),
        ("42501", "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f();", superuser),
    ] {
        let output = format!("psql:a.sql:1: ERROR:  {code}: refused\npsql:a.sql:1: STATEMENT:  {statement}\n");
        let sentence = sentence(&output);
        assert!(sentence.lines().next().unwrap().contains(hint), "{statement}: {sentence}");
    }
    let block = "psql:a.sql:3: ERROR:  42501: permission denied to create role\n\
                 CONTEXT:  SQL statement \"CREATE ROLE reader\n  NOLOGIN\"\nPL/pgSQL function inline_code_block line 3 at SQL statement\n\
                 psql:a.sql:3: STATEMENT:  DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles) THEN\nCREATE ROLE reader\n  NOLOGIN; END IF; END $$;\n";
    assert!(sentence(block).contains(by_pool), "{}", sentence(block));
}
