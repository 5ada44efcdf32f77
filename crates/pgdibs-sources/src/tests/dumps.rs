//! Tests of dumps with owners: which lines become empty, and that the others stay the same.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::dump::{without_owner, without_owners};
use super::super::psql_text::PsqlText;

/// Lines that become empty.
const OWNERS: [&str; 15] = [
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
    "ALTER TABLE ONLY public.item\n    ADD CONSTRAINT item_pkey PRIMARY KEY (id);\nCREATE SCHEMA public2;\n",
    "  ALTER TABLE indented OWNER TO me;\nSELECT 1; ALTER TABLE x OWNER TO y;\nALTER TABLE x OWNER TO y; SELECT 1;\n",
    "\\restrict a'b\"c$$\nALTER TABLE x OWNER TO\nme;\n\\unrestrict a'b\"c$$\n",
];

fn through(text: &mut PsqlText, given: &str) -> String {
    let lines = given.split_inclusive('\n').map(|line| without_owner(text, line.as_bytes()).to_vec());
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

#[test]
fn only_plain_dump_is_copied_privately_and_temporarily() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("dump.sql");
    let header = "--\n-- PostgreSQL database dump\n--\n\n";
    let owner = "ALTER TABLE a OWNER TO b;\n";
    for (given, expected) in [
        (format!("{header}\\restrict x\n\n{owner}"), Some(format!("{header}\\restrict x\n\n\n"))),
        (
            format!("-- ours\r\n\r\n\\restrict x\r\n{header}{owner}"),
            Some(format!("-- ours\r\n\r\n\\restrict x\r\n{header}\n")),
        ),
        (format!("select 1;\n{header}{owner}"), None),
        (format!("--\n-- PostgreSQL database cluster dump\n--\n{owner}"), None),
        (owner.to_owned(), None),
        (String::new(), None),
    ] {
        fs::write(&file, &given).unwrap();
        let copy = without_owners(&file).unwrap();
        let text = copy.as_ref().map(|copy| fs::read_to_string(copy.path()).unwrap());
        assert_eq!(text, expected, "{given}");
        if let Some(copy) = copy {
            assert_eq!(fs::metadata(copy.path()).unwrap().permissions().mode() & 0o777, 0o600);
            let path = copy.path().to_owned();
            drop(copy);
            assert!(!path.exists());
        }
    }
    assert!(without_owners(&base.path().join("none.sql")).is_err());
}
