//! Tests of default dumps of pg_dump, with owners, built by a login that is no superuser.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::tests::server::TestServer;
use crate::tests::{PASSWORD, source};
use crate::{BuildFailure, BuildReport, BuildTarget, Source, SourceKind, build, plan};

const SCHEMA: &str = r#"
create schema shop;
create extension pgcrypto;
create sequence shop.numbers start 100;
create type shop.colour as enum ('red', 'blue');
create domain shop.price as numeric check (value >= 0);
create table shop.item (id int primary key default nextval('shop.numbers'), name text, colour shop.colour, price shop.price,
  secret bytea default public.digest('x', 'sha256'), escaped text default E'back\\slash ''quoted''');
create table "Odd ""name""; it's" (line text);
create function shop.count() returns bigint language sql as $$ select count(*) from shop.item; $$;
create function shop.nasty() returns text language plpgsql as $body$
begin
ALTER TABLE shop.item OWNER TO postgres;
  return $$it's
ALTER TABLE shop.item OWNER TO postgres;
$$;
end $body$;
create function shop.atomic(a int) returns int begin atomic select a; select a + 1; end;
create procedure shop.nothing(in a int, inout b text) language sql as 'select ''
COMMENT ON EXTENSION pgcrypto IS NULL;
''::text';
create aggregate shop.total(int) (sfunc = int4pl, stype = int);
create view shop.red as select * from shop.item where colour = 'red' and name <> E'\\''
ALTER TABLE shop.item OWNER TO postgres;
';
create materialized view shop.names as select name from shop.item;
create statistics shop.both on name, colour from shop.item;
create publication changes for table shop.item;
comment on table shop.item is 'it''s
ALTER TABLE shop.item OWNER TO postgres;
';
comment on extension pgcrypto is 'ours';
create role dump_reader;
grant usage on schema shop to dump_reader;
grant select on shop.item to dump_reader;
create role dump_owner;
alter schema public owner to dump_owner;
revoke all on schema public from public;
grant usage on schema public to dump_reader;
insert into shop.item (name, colour, price) select 'näme ' || n || E'\ttab\nline \\.', 'red', n from generate_series(1, 50) n;
insert into "Odd ""name""; it's" values ('ALTER TABLE shop.item OWNER TO postgres;'), ('\.'), ('it''s $$'), ('CREATE SCHEMA public;');
select setval('shop.numbers', 777);
"#;

/// A database for a build, prepared as the daemon does: a login without rights that owns the schema `public`, and extensions.
fn prepared(server: &TestServer, name: &str) -> BuildTarget {
    let target = server.target(name);
    let user = format!("{name}_login");
    server.query(name, &format!("create role {user} login password '{PASSWORD}'"));
    server.query(name, &format!("alter schema public owner to {user}; grant create on database {name} to {user}"));
    server.query(name, "create extension pgcrypto");
    let url =
        String::from(secrecy::ExposeSecret::expose_secret(&target.url)).replace("//builder:", &format!("//{user}:"));
    BuildTarget { user, url: url.into(), ..target }
}

fn dumped(server: &TestServer, database: &str, arguments: &[&str], into: &Path) -> PathBuf {
    let file = into.join("dump.sql");
    let made = server.program("pg_dump").args(arguments).args(["-d", database, "-f"]).arg(&file).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

/// A dump of the content, without owners and without the lines that differ between any two dumps.
fn content(server: &TestServer, database: &str, into: &Path) -> String {
    let file = dumped(server, database, &["--no-owner", "--no-comments", "--no-privileges"], into);
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "));
    lines.collect::<Vec<_>>().join("\n")
}

async fn built(source: &Source, target: &BuildTarget) -> Result<BuildReport, BuildFailure> {
    build(source, plan(source)?, target, Duration::from_secs(60), CancellationToken::new()).await
}

#[tokio::test]
async fn default_dump_of_superuser_builds_without_rights() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    server.target("owned_from");
    let file = base.path().join("schema.sql");
    fs::write(&file, SCHEMA).unwrap();
    let made = server
        .program("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "owned_from", "-f"])
        .arg(&file)
        .output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for arguments in [&[][..], &["--use-set-session-authorization"], &["--inserts"]] {
        let name = format!("owned_into_{}", arguments.concat().len());
        let dump = dumped(&server, "owned_from", arguments, base.path());
        let text = fs::read_to_string(&dump).unwrap();
        let owned = if arguments.len() == 1 && arguments[0].starts_with("--use") {
            "\nSET SESSION AUTHORIZATION"
        } else {
            " OWNER TO builder;"
        };
        assert!(text.contains(owned) && text.contains("\nCOMMENT ON EXTENSION pgcrypto"), "the dump has no owners");
        let target = prepared(&server, &name);
        built(&source(SourceKind::SqlFile(dump), base.path()), &target)
            .await
            .unwrap_or_else(|failure| panic!("{arguments:?}: {}", failure.detail));
        assert_eq!(content(&server, &name, base.path()), content(&server, "owned_from", base.path()), "{arguments:?}");
        let comment = "select obj_description('shop.item'::regclass), has_table_privilege('dump_reader', 'shop.item', 'select'), \
             has_schema_privilege('dump_reader', 'public', 'usage'), \
             (select count(*) from pg_namespace, aclexplode(nspacl) where nspname = 'public' and grantee = 0)";
        assert_eq!(server.query(&name, comment), server.query("owned_from", comment));
        let owner = "select string_agg(distinct relowner::regrole::text, ',') from pg_class where relnamespace = 'shop'::regnamespace";
        assert_eq!(server.query(&name, owner), target.user);
    }
}

#[tokio::test]
async fn dump_of_schema_public_builds() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    server.target("public_from");
    server.query("public_from", "create table t (n int); insert into t values (7)");
    let dump = dumped(&server, "public_from", &["-n", "public"], base.path());
    assert!(fs::read_to_string(&dump).unwrap().contains("\nCREATE SCHEMA public;\n"));
    built(&source(SourceKind::SqlFile(dump), base.path()), &prepared(&server, "public_into")).await.unwrap();
    assert_eq!(server.query("public_into", "select n from t"), "7");
}

#[tokio::test]
async fn error_in_dump_names_original_file_and_setting() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    let target = prepared(&server, "hinted");
    let file = base.path().join("dump.sql");
    let header = "--\n-- PostgreSQL database dump\n--\n\ncreate table t (n int);\nALTER TABLE t OWNER TO postgres;\n";
    let roles = "; if this is about a role: list it under `roles` of the pool, or make the dump with --no-owner --no-privileges";
    let extensions = "; the build's login is no superuser: list the extension under `extensions` of the pool";
    for (statement, message, hint) in [
        ("GRANT ALL ON t TO missing_here;", "role \"missing_here\" does not exist (SQLSTATE 42704)", roles),
        ("GRANT SELECT ON pg_authid TO PUBLIC;", "permission denied for table pg_authid (SQLSTATE 42501)", roles),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE builder GRANT SELECT ON TABLES TO PUBLIC;", "(SQLSTATE 42501)", roles),
        (
            "CREATE EXTENSION file_fdw;",
            "permission denied to create extension \"file_fdw\" (SQLSTATE 42501)",
            extensions,
        ),
        (
            "CREATE DATABASE x;",
            "permission denied to create database (SQLSTATE 42501)",
            "; the build already has a database: make the dump without --create",
        ),
        ("CREATE TABLE u (n no_such_type);", "type \"no_such_type\" does not exist (SQLSTATE 42704)", ""),
    ] {
        server.query("hinted", "drop table if exists t");
        fs::write(&file, format!("{header}\n{statement}\n")).unwrap();
        let failure = built(&source(SourceKind::SqlFile(file.clone()), base.path()), &target).await.unwrap_err();
        let (first, _) = failure.detail.split_once('\n').unwrap();
        assert!(first.starts_with(&format!("{}, line 8: ", file.display())), "{first}");
        assert!(first.ends_with(&format!("{message}{hint}")), "{first}");
        assert!(!failure.detail.contains("pgdibs-dump-"), "{}", failure.detail);
    }
}
