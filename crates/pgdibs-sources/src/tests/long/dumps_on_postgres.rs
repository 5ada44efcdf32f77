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
        ("ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT SELECT ON TABLES TO missing_here;", "(SQLSTATE 42704)", roles),
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

/// What tests make later has the grants of the dump's default privileges.
fn assert_default_privileges(server: &TestServer, target: &BuildTarget) {
    let login = &target.user;
    server.query(&target.database, &format!("set role {login}; create table made_later (n int)"));
    let granted =
        server.query(&target.database, "select has_table_privilege('dump_reader_of_defaults', 'made_later', 'select')");
    assert_eq!(granted, "t", "{}", target.database);
}

/// A database of a superuser with an owner of its objects that the server of the build need not know, and default privileges of this owner.
fn owned_by_other(server: &TestServer, database: &str, owner: &str) {
    server.target(database);
    let made = "do $$ begin create role dump_reader_of_defaults; exception when duplicate_object then null; end $$;
         create role other_owner;
         create schema app authorization other_owner; grant all on schema public to other_owner; set role other_owner;
         create table app.item (id int primary key, name text); insert into app.item values (1, 'one');
         grant select on app.item to dump_reader_of_defaults;
         alter default privileges for role other_owner grant select on tables to dump_reader_of_defaults;
         reset role; create extension pgcrypto; comment on extension pgcrypto is 'not ours';";
    server.query(database, &made.replace("other_owner", owner));
}

/// Regression: `ALTER DEFAULT PRIVILEGES FOR ROLE …` failed (as in a bug report about restores to Neon), as did `COMMENT ON EXTENSION`
/// without the header (Rails' bug report about structure.sql) and `SET transaction_timeout` (Discourse's about its backups).
#[tokio::test]
async fn schema_files_of_frameworks_build_with_default_privileges() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    owned_by_other(&server, "frameworks_from", "owner_of_frameworks");
    let dump = dumped(&server, "frameworks_from", &["--schema-only"], base.path());
    let text = fs::read_to_string(&dump).unwrap();
    assert!(text.contains("\nALTER DEFAULT PRIVILEGES FOR ROLE owner_of_frameworks "), "{text}");
    assert!(text.contains("\nCOMMENT ON EXTENSION pgcrypto "), "{text}");
    let newer = text.replace("SET lock_timeout = 0;", "SET lock_timeout = 0;\nSET transaction_timeout = 0;");
    let of_server = "GRANT USAGE ON SCHEMA app TO owner_of_frameworks;\n";
    let plain = newer.replace("GRANT ALL ON SCHEMA public TO owner_of_frameworks;\n", "").replace(of_server, "");
    let start = plain.find("SET statement_timeout").unwrap();
    let key = plain.lines().find_map(|line| line.strip_prefix("\\restrict "));
    let (restrict, restricted) = match key {
        Some(key) => (format!("\\restrict {key}\n"), "\\restrict dbmate\n\n".to_owned()),
        None => (String::new(), String::new()),
    };
    let of_dbmate = plain[start..]
        .replace(&restrict.replace("restrict", "unrestrict"), &restricted.replace("restrict", "unrestrict"));
    for (name, text) in [
        (
            "rails",
            format!(
                "{restrict}{}\nSET search_path TO \"$user\", public;\ncreate table schema_migrations (version text);\n",
                &plain[start..]
            ),
        ),
        (
            "dbmate",
            format!(
                "{restricted}{of_dbmate}\n--\n-- Dbmate schema migrations\n--\n\ncreate table schema_migrations (v text);\n"
            ),
        ),
        ("with_bom", format!("\u{feff}{plain}create table schema_migrations (v text);\n")),
        (
            "after_set",
            format!(
                "-- made by hand\nSET ROLE owner_of_frameworks;\n{plain}create table schema_migrations (v text);\n"
            ),
        ),
    ] {
        let file = base.path().join(format!("{name}.sql"));
        fs::write(&file, text.replace("create table schema_migrations", "create table public.schema_migrations"))
            .unwrap();
        let target = prepared(&server, &format!("frameworks_{name}"));
        server.query("postgres", "alter role owner_of_frameworks rename to renamed_owner");
        let built = built(&source(SourceKind::SqlFile(file), base.path()), &target).await;
        server.query("postgres", "alter role renamed_owner rename to owner_of_frameworks");
        built.unwrap_or_else(|failure| panic!("{name}: {}", failure.detail));
        let owner =
            server.query(&target.database, "select relowner::regrole from pg_class where oid = 'app.item'::regclass");
        assert_eq!(owner, target.user);
        assert_default_privileges(&server, &target);
    }
}

/// Regression: psql refused these files, and no other way was named (as asked of the image docker-library/postgres).
#[tokio::test]
async fn dumps_in_other_formats_build() {
    let (server, base) = (TestServer::shared(), tempfile::tempdir().unwrap());
    owned_by_other(&server, "formats_from", "owner_of_formats");
    server.query("formats_from", "revoke all on schema public from owner_of_formats");
    let file = |name: &str| base.path().join(name);
    for (arguments, name) in [
        (&["-Fc"][..], "dump.custom"),
        (&["-Ft"], "dump.tar"),
        (&["-Fd"], "dump.dir"),
        (&["-Fp", "-Z", "5"], "dump.sql.gz"),
        (&["-Fp"], "dump.sql"),
    ] {
        let made = server
            .program("pg_dump")
            .args(arguments)
            .args(["-d", "formats_from", "-f"])
            .arg(file(name))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    for name in ["dump.custom", "dump.sql"] {
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut zipped, &fs::read(file(name)).unwrap()).unwrap();
        fs::write(file(&format!("zipped.{name}")), zipped.finish().unwrap()).unwrap();
    }
    for name in ["dump.custom", "dump.tar", "dump.dir", "dump.sql.gz", "zipped.dump.custom", "zipped.dump.sql"] {
        let target = prepared(&server, &format!("formats_{}", name.replace('.', "_")));
        let source = source(SourceKind::SqlFile(file(name)), base.path());
        server.query("postgres", "alter role owner_of_formats rename to renamed_of_formats");
        let built = built(&source, &target).await;
        server.query("postgres", "alter role renamed_of_formats rename to owner_of_formats");
        built.unwrap_or_else(|failure| panic!("{name}: {}", failure.detail));
        let content = "select string_agg(i::text, ' '), has_table_privilege('dump_reader_of_defaults', 'app.item', 'select') from app.item i";
        assert_eq!(server.query(&target.database, content), "(1,one)|t", "{name}");
        assert_default_privileges(&server, &target);
    }

    let target = prepared(&server, "formats_unfit");
    let fails = async |name: &str, bytes: &[u8]| {
        fs::write(file(name), bytes).unwrap();
        built(&source(SourceKind::SqlFile(file(name)), base.path()), &target).await.unwrap_err().detail
    };
    // Testcontainers' bug report: the file begins with `\connect template1` after the roles.
    let cluster = server.program("pg_dumpall").output().unwrap();
    assert!(cluster.status.success(), "{}", String::from_utf8_lossy(&cluster.stderr));
    let sentence = fails("all.sql", &cluster.stdout).await;
    let command = format!("pg_dump --no-owner --file {} DATABASE", file("all.sql").display());
    assert!(sentence.contains("a dump of a whole cluster (pg_dumpall)") && sentence.contains(&command), "{sentence}");
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zipped, &cluster.stdout).unwrap();
    let sentence = fails("all.sql.gz", &zipped.finish().unwrap()).await;
    assert!(sentence.contains(&format!("--file {} DATABASE", file("all.sql.gz").display())), "{sentence}");
    let half = fs::read(file("dump.custom")).unwrap();
    let sentence = fails("half.custom", &half[..half.len() / 2]).await;
    assert!(
        sentence.starts_with("pg_restore failed with exit code 1; its last lines:\npg_restore: error: "),
        "{sentence}"
    );
    let half = fs::read(file("dump.sql.gz")).unwrap();
    let sentence = fails("half.gz", &half[..half.len() / 2]).await;
    assert!(sentence.starts_with("cannot decompress the file: "), "{sentence}");
    let mut newer = fs::read(file("dump.custom")).unwrap();
    newer[5..8].copy_from_slice(&[1, 99, 0]);
    let sentence = fails("newer.custom", &newer).await;
    assert!(
        sentence
            .contains("; a newer pg_dump made the file: set pg_bin_dir to programs of its version; its last lines:\n"),
        "{sentence}"
    );
    server.query("formats_unfit", "create schema app");
    let failure =
        built(&source(SourceKind::SqlFile(file("dump.custom")), base.path()), &target).await.unwrap_err().detail;
    let place = format!("{} (as pg_restore prints it), line ", file("dump.custom").display());
    assert!(
        failure.starts_with(&place) && failure.contains("schema \"app\" already exists (SQLSTATE 42P06)"),
        "{failure}"
    );
}
