//! Tests of dumps with owners: which lines become empty, and that the others stay the same.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::dump::{Format, decompressed, format_of, without_owner, without_owners};
use super::super::dump_roles::DumpRoles;
use super::super::psql_text::PsqlText;

/// Lines that become empty.
const OWNERS: [&str; 16] = [
    "ALTER SCHEMA rename OWNER TO postgres;",
    "ALTER TABLE public.rename OWNER TO owner;",
    "ALTER TABLE public.item OWNER TO postgres;",
    "ALTER TABLE public.\"semi;colon 'and' $$ -- \"\"quoted\"\"\" OWNER TO \"My Role; it's -- $$ mine\";",
    "ALTER FUNCTION public.f(integer, text, \"Od)d\", numeric(3,2), VARIADIC text[]) OWNER TO postgres;",
    "ALTER SCHEMA public OWNER TO pg_database_owner;",
    "ALTER OPERATOR public.+- (integer, integer) OWNER TO postgres;",
    "ALTER LARGE OBJECT 16500 OWNER TO postgres;",
    "ALTER OPERATOR FAMILY public.f USING btree OWNER TO postgres;",
    "CREATE SCHEMA public;",
    "COMMENT ON SCHEMA public IS 'standard public schema';",
    "COMMENT ON EXTENSION \"uuid-ossp\" IS 'it''s; a -- comment';",
    "SET SESSION AUTHORIZATION 'postgres';",
    "SET SESSION AUTHORIZATION DEFAULT;",
    "SET transaction_timeout = 0;",
    "SET ROLE app_owner;",
];

/// Complete texts that stay, byte for byte. `@` stands for a line of `OWNERS`, `#` for one within single quotes, `%` for one within
/// double quotes, and `~` for one between `$$`.
const STAYS: [&str; 26] = [
    "",
    "--\n-- Name: item; Owner: postgres\n--\n",
    "-- it's a comment with $$ and /* and \"\n",
    "CREATE TABLE public.item (\n    id integer DEFAULT 1,\n    note text DEFAULT 'it''s;\n#\n'::text\n);\n",
    "CREATE FUNCTION public.f() RETURNS text\n    LANGUAGE plpgsql\n    AS $$\nbegin\n~\n  return 'it''s';\nend; $$;\n",
    "CREATE FUNCTION public.f() RETURNS text\n    LANGUAGE plpgsql\n    AS $_$\nbegin perform $1, $$\n@\n$$, 'half; $a$ \n@\nend $_$;\n",
    "CREATE FUNCTION public.f() RETURNS text\n AS $fun$ $$ ' \" $\n@\n$fu$\n@\n$funn$ -- $Fun$\n@\n$fun$;\n",
    "CREATE FUNCTION public.c() RETURNS void\n    LANGUAGE c\n    AS '\n#\n\\';\n",
    "SELECT E'it\\'s\n#\n\\\\';\n",
    "SELECT e'a'\n  'still \\' escapes\n#\n';\n",
    "SELECT date'\n#\n\\';\n",
    "SELECT U&'d\\0061t\n#\n\\' , N'\n#\n\\';\n",
    "CREATE VIEW public.\"it's\n%\n\"\" $$ /* \" AS SELECT 1;\n",
    "SELECT a$b$c, 1 FROM t$ WHERE x = '\n#\n$c$';\n",
    "SELECT 1 /* /* nested;\n@\n*/ ' still\n@\n*/ ;\n",
    "CREATE RULE r AS ON INSERT TO t DO ALSO (\nSELECT 1;\n@\nSELECT 2;\n);\n",
    "COPY public.item (id, note) FROM stdin;\n1\t'it''s $$ /* \"\n@\n2\t\\\\.\n\\N\t\\\\\n\\.\n",
    "COPY public.item (id, note) FROM stdin;\r\n@\r\n\\.\r\n",
    "COPY public.empty FROM stdin;\n\\.\n",
    "COPY public.\"na\nme\" (id) FROM stdin;\n@\n\\.\n",
    "GRANT ALL ON SCHEMA public TO app;\nREVOKE USAGE ON SCHEMA public FROM PUBLIC;\n",
    "COMMENT ON SCHEMA public IS 'ours';\nCOMMENT ON TABLE public.item IS 'ALTER TABLE x OWNER TO y;';\n",
    "ALTER DATABASE shop SET my.owner TO postgres;\nALTER TABLE a RENAME owner TO holder;\nALTER TABLE a RENAME COLUMN owner TO holder;\n",
    "ALTER TABLE ONLY public.item\n    ADD CONSTRAINT item_pkey PRIMARY KEY (id);\nCREATE SCHEMA IF NOT EXISTS public2;\n",
    "  ALTER TABLE indented OWNER TO me;\nSELECT 1; ALTER TABLE x OWNER TO y;\nALTER TABLE x OWNER TO y; SELECT 1;\n",
    "\\restrict a'b\"c$$\nALTER TABLE x OWNER TO\nme;\n\\unrestrict a'b\"c$$\n",
];

fn through(text: &mut PsqlText, given: &str) -> String {
    let lines =
        given.split_inclusive('\n').map(|line| without_owner(text, line.as_bytes(), &DumpRoles::default()).to_vec());
    String::from_utf8(lines.collect::<Vec<_>>().concat()).unwrap()
}

fn with(text: &str, owner: &str) -> String {
    let (single, double) = (owner.replace('\'', "''"), owner.replace('"', "\"\""));
    text.replace('~', &owner.replace("$$", "$ $")).replace('@', owner).replace('#', &single).replace('%', &double)
}

/// Every pair of texts, with every line of `OWNERS` between, after and (for `@`) within them.
///
/// Regression: dumps of pg_dump 17 and newer did not load on older servers because of `SET transaction_timeout`.
#[test]
fn owner_statements_become_empty_and_text_stays() {
    for (before, owner) in STAYS.iter().flat_map(|text| OWNERS.map(|owner| (with(text, owner), owner))) {
        for after in STAYS.map(|text| with(text, owner)) {
            let mut text = PsqlText::default();
            let given = format!("{before}{owner}\n{after}{owner}\r\n{before}{owner}");
            assert_eq!(through(&mut text, &given), format!("{before}\n{after}\r\n{before}"), "{given}");
        }
    }
}

#[test]
fn backslash_escapes_quote_without_standard_strings() {
    let body = "CREATE FUNCTION f() RETURNS text AS 'begin return \\'\nALTER TABLE a OWNER TO b;\n\\';\nend';\n";
    let given = format!("SET standard_conforming_strings = off;\n{body}ALTER TABLE a OWNER TO b;\n");
    let expected = format!("SET standard_conforming_strings = off;\n{body}\n");
    assert_eq!(through(&mut PsqlText::default(), &given), expected);
}

/// Regression: default privileges were left to the dump's owner, so that what tests make had no grants; the other clauses failed.
#[test]
fn clauses_about_owners_are_left_out() {
    for (given, expected) in [
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA public GRANT SELECT ON TABLES TO app_reader;",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO app_reader;",
        ),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"My role; it's\" REVOKE ALL ON FUNCTIONS FROM PUBLIC;",
            "ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;",
        ),
        (
            "alter default privileges for user a, \"b\" grant select on tables to c;",
            "alter default privileges grant select on tables to c;",
        ),
        ("CREATE SCHEMA shop AUTHORIZATION app_owner;", "CREATE SCHEMA shop;"),
        (
            "CREATE SCHEMA IF NOT EXISTS \"authorization\" AUTHORIZATION \"app owner\";",
            "CREATE SCHEMA IF NOT EXISTS \"authorization\";",
        ),
        ("CREATE SCHEMA AUTHORIZATION app_owner;", "CREATE SCHEMA app_owner;"),
        (
            "GRANT SELECT ON TABLE shop.\"granted by x\" TO r WITH GRANT OPTION GRANTED BY app_owner;",
            "GRANT SELECT ON TABLE shop.\"granted by x\" TO r WITH GRANT OPTION;",
        ),
        ("REVOKE ALL ON SCHEMA public FROM r GRANTED BY app_owner;", "REVOKE ALL ON SCHEMA public FROM r;"),
        ("CREATE SCHEMA shop;", "CREATE SCHEMA IF NOT EXISTS shop;"),
        (
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r;",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r;",
        ),
        ("CREATE TABLE t (n int); -- FOR ROLE x", "CREATE TABLE t (n int); -- FOR ROLE x"),
    ] {
        let text = format!("{given}\r\n-- next\n");
        assert_eq!(through(&mut PsqlText::default(), &text), format!("{expected}\r\n-- next\n"));
        // A body that quotes the statement stays.
        let quoted = format!("select $$\n{given}\n$$;\n");
        assert_eq!(through(&mut PsqlText::default(), &quoted), quoted);
    }
}

const HEADER: &str = "--\n-- PostgreSQL database dump\n--\n\n";
const SETTINGS: &str =
    "SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET transaction_timeout = 0;\nSET client_encoding = 'UTF8';\n";

/// Regression: a dump was recognised by its header alone.
#[test]
fn format_of_file_is_recognised_by_content() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("dump.sql");
    let mut tar = b"toc.dat".to_vec();
    tar.resize(257, 0);
    tar.extend_from_slice(b"ustar  \0");
    let of = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        format_of(&file, Path::new("/user/all.sql")).unwrap()
    };
    for text in [
        HEADER.to_owned(),
        format!("-- ours\r\n\r\n\\restrict x\r\n{HEADER}"),
        format!("\u{feff}{HEADER}"),
        format!("SET search_path = shop;\n-- first\n{HEADER}"),
        "\u{feff}-- PostgreSQL database dump\n".to_owned(),
        // Rails and dbmate remove the comments at the beginning.
        SETTINGS.to_owned(),
        format!("\\restrict dbmate\n\n-- Dumped from database version 17.6\n\n{SETTINGS}"),
        format!("\u{feff}/* ours */\nCREATE EXTENSION IF NOT EXISTS pgcrypto;\n{}", SETTINGS.replace('\n', "\r\n")),
    ] {
        assert_eq!(of(text.as_bytes()), Format::PlainDump, "{text}");
    }
    for text in ["", "SET statement_timeout = 0;\nALTER TABLE a OWNER TO b;\n", "select '\nSET client_encoding = '\n"] {
        assert_eq!(of(text.as_bytes()), Format::Sql, "{text}");
    }
    assert_eq!(of(&vec![b'x'; 1 << 20]), Format::Sql);
    assert_eq!(of(b"PGDMP\x01\x0f\0"), Format::Archive);
    assert_eq!(of(&tar), Format::Archive);
    assert_eq!(of(b"\x1f\x8b\x08\0"), Format::Gzip);
    let cluster = format!("--\n-- PostgreSQL database cluster dump\n--\n\n\\connect template1\n{HEADER}");
    for (bytes, reason) in [
        (
            cluster.as_bytes(),
            "is a dump of a whole cluster (pg_dumpall), with its roles and all its databases; make one of the database ",
        ),
        (
            b"\xff\xfe-\0-\0",
            "is in UTF-16, which PowerShell's `>` writes; let pg_dump write the file itself: pg_dump --no-owner --file ",
        ),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it: zstd -d "),
    ] {
        let Format::Unfit(sentence) = of(bytes) else { panic!("{reason}") };
        assert!(sentence.starts_with(reason) && sentence.contains(" /user/all.sql"), "{sentence}");
    }
    assert!(format_of(&base.path().join("none.sql"), &file).is_err());
}

#[test]
fn copies_are_private_and_temporary() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("dump.sql");
    fs::write(&file, format!("{HEADER}\\restrict x\n\nALTER TABLE a OWNER TO b;\n")).unwrap();
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zipped, b"two").unwrap();
    let member = zipped.finish().unwrap();
    fs::write(base.path().join("two.gz"), [member.clone(), member].concat()).unwrap();
    for (copy, expected) in [
        (without_owners(&file, &DumpRoles::default()).unwrap(), format!("{HEADER}\\restrict x\n\n\n")),
        (decompressed(&base.path().join("two.gz")).unwrap(), "twotwo".to_owned()),
    ] {
        assert_eq!(fs::read_to_string(copy.path()).unwrap(), expected);
        assert_eq!(fs::metadata(copy.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let path = copy.path().to_owned();
        drop(copy);
        assert!(!path.exists());
    }
    assert!(decompressed(&file).is_err());
    fs::write(&file, "\\ir 'a file.sql'\nselect '\n\\ir b.sql\n';\n\\i c.sql\n").unwrap();
    let text = fs::read_to_string(without_owners(&file, &DumpRoles::default()).unwrap().path()).unwrap();
    let directory = base.path().display();
    assert_eq!(text, format!("\\i '{directory}'/'a file.sql'\nselect '\n\\ir b.sql\n';\n\\i c.sql\n"));
    assert!(without_owners(&base.path().join("none.sql"), &DumpRoles::default()).is_err());
}

/// In the dump of a template, the pool's other roles keep their objects, and the owner may have another name.
#[test]
fn listed_roles_keep_their_objects_and_the_owner_is_renamed() {
    let roles = DumpRoles {
        kept: vec!["reader".to_owned(), "My Role".to_owned()],
        owner: Some(("pgdibs_a".to_owned(), "pgdibs_b".to_owned())),
        schemas: vec![("Odd s".to_owned(), "grant create on schema \"Odd s\" to reader;\n".to_owned())],
    };
    for (line, copied) in [
        ("ALTER TABLE public.t OWNER TO reader;", "ALTER TABLE public.t OWNER TO reader;"),
        ("ALTER TABLE public.t OWNER TO \"My Role\";", "ALTER TABLE public.t OWNER TO \"My Role\";"),
        ("ALTER TABLE public.t OWNER TO pgdibs_a;", ""),
        ("ALTER TABLE public.t OWNER TO postgres;", ""),
        (
            "GRANT SELECT ON TABLE public.pgdibs_a TO pgdibs_a;",
            "GRANT SELECT ON TABLE public.pgdibs_a TO \"pgdibs_b\";",
        ),
        ("REVOKE ALL ON TABLE public.t FROM pgdibs_a;", "REVOKE ALL ON TABLE public.t FROM \"pgdibs_b\";"),
        ("CREATE POLICY p ON public.t TO reader, pgdibs_a;", "CREATE POLICY p ON public.t TO reader, \"pgdibs_b\";"),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE reader IN SCHEMA s GRANT ALL ON TABLES TO pgdibs_a;",
            "ALTER DEFAULT PRIVILEGES FOR ROLE reader IN SCHEMA s GRANT ALL ON TABLES TO \"pgdibs_b\";",
        ),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE pgdibs_a IN SCHEMA s GRANT ALL ON TABLES TO reader;",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT ALL ON TABLES TO reader;",
        ),
        (
            "CREATE SCHEMA \"Odd s\";",
            "CREATE SCHEMA IF NOT EXISTS \"Odd s\";\ngrant create on schema \"Odd s\" to reader;",
        ),
        ("CREATE SCHEMA other;", "CREATE SCHEMA IF NOT EXISTS other;"),
    ] {
        let line = format!("{line}\n");
        let copy = without_owner(&mut PsqlText::default(), line.as_bytes(), &roles).into_owned();
        assert_eq!(String::from_utf8(copy).unwrap(), format!("{copied}\n"));
    }
}
