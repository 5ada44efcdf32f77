//! Extensions of templates: who owns them, and what a lease may do with them.

use pgdibs_core::pool::{Extension, PoolPatch};
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::cluster::{Cluster, all_binaries};

use crate::support::own_share::restart_with;
use crate::support::setting::{Setting, on_each_server, run, text};

fn with(extensions: Vec<Extension>) -> PoolPatch {
    PoolPatch { warm: Some(1), spares: Some(0), extensions: Some(extensions), ..PoolPatch::default() }
}

fn in_schema(name: &str, schema: &str) -> Extension {
    Extension { name: name.to_owned(), schema: Some(schema.to_owned()) }
}

#[test]
fn trusted_extension_belongs_to_owner_in_its_schema() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            // `earthdistance` is not trusted and requires `cube`, which is.
            let (cube, above) = match rights {
                Rights::Superuser => ("earthdistance", "earthdistance the-boss public, "),
                Rights::DatabasesAndRoles => ("cube", ""),
            };
            let patch = with(vec![Extension::named(cube), in_schema("pgcrypto", "ext \"1\"")]);
            let lease = setting.lease_of_build(&patch, "first", "select \"ext \"\"1\"\"\".digest('a', 'md5')").await;
            let mut session = setting.suite.enter(&lease).await;
            let owners = "select string_agg(extname || ' ' || pg_get_userbyid(extowner) || ' ' || extnamespace::regnamespace, ', ' order by extname)
                          from pg_extension where extname <> 'plpgsql'";
            let owned = format!("cube pgdibs_suite public, {above}pgcrypto pgdibs_suite \"ext \"\"1\"\"\"");
            assert_eq!(text(&mut session, owners).await, owned);
            for sql in [
                "alter extension pgcrypto update",
                "comment on extension cube is 'ours'",
                "drop extension cube cascade",
                "create extension cube",
            ] {
                assert_eq!(run(&mut session, sql).await, Ok(()), "{sql}");
            }
            // A rule of Postgres: the functions of a trusted extension belong to the bootstrap superuser.
            let moved = run(&mut session, "alter extension pgcrypto set schema public").await;
            assert_eq!(moved, Err("42501".to_owned()));
        });
    }
}

#[test]
fn listed_wrapper_of_untrusted_extension_makes_servers() {
    on_each_server(Rights::Superuser, async |setting| {
        let patch = with(vec![Extension::named("postgres_fdw"), Extension::named("pageinspect")]);
        let made = "create server elsewhere foreign data wrapper postgres_fdw";
        let lease = setting.lease_of_build(&patch, "first", made).await;
        let mut session = setting.suite.enter(&lease).await;
        assert_eq!(run(&mut session, "create foreign table f (n int) server elsewhere").await, Ok(()));
        for refused in [
            "select get_raw_page('pg_class', 0)",
            "alter extension pageinspect update",
            "alter extension postgres_fdw set schema pg_temp",
            "drop extension pageinspect",
            "create or replace function get_raw_page(text, int8) returns bytea language sql as 'select null::bytea'",
        ] {
            assert_eq!(run(&mut session, refused).await, Err("42501".to_owned()), "{refused}");
        }
    });
}

/// As PostGIS is made: untrusted, with a table whose rows are in every dump, a schema of its own, and another extension on top.
const FILES: [(&str, &str); 4] = [
    ("suite_data.control", "default_version = '1.0'\nrelocatable = false\n"),
    (
        "suite_data--1.0.sql",
        "create table lookup (id serial primary key, name text);
         select pg_catalog.pg_extension_config_dump('lookup', '');
         create function secret() returns int language sql as 'select 1';
         revoke execute on function secret() from public;
         create schema suite_inner; create table suite_inner.more (n int);
         create view hidden as select 1 as n;
         create foreign data wrapper suite_wrapper;",
    ),
    ("suite_top.control", "default_version = '1.0'\nrelocatable = false\nrequires = 'suite_data'\n"),
    ("suite_top--1.0.sql", "create table top (n int);"),
];

#[test]
fn owner_changes_rows_of_untrusted_extension_and_nothing_else() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for binaries in all_binaries() {
        runtime.block_on(async {
            let mut cluster = Cluster::start_of(&binaries, &[]);
            let _share = restart_with(&mut cluster, &FILES).await;
            let setting = Setting::on(cluster, Rights::Superuser).await;
            // What another extension requires goes into its schema.
            let dump = "insert into ext.lookup (id, name) values (4326, 'WGS 84')";
            let lease = setting.lease_of_build(&with(vec![in_schema("suite_top", "ext")]), "first", dump).await;
            let mut session = setting.suite.enter(&lease).await;
            for allowed in [
                "insert into ext.lookup (name) values ('a')",
                "update ext.lookup set name = 'b' where id = 1",
                "delete from ext.lookup where id = 1",
                "insert into suite_inner.more values (1)",
                "insert into ext.top values (1)",
            ] {
                assert_eq!(run(&mut session, allowed).await, Ok(()), "{allowed}");
            }
            assert_eq!(text(&mut session, "select string_agg(name, ' ') from ext.lookup").await, "WGS 84");
            for refused in [
                "select ext.secret()",
                "select * from ext.hidden",
                "truncate ext.lookup",
                "alter table ext.lookup add column more int",
                "create table suite_inner.own (n int)",
                "create server s foreign data wrapper suite_wrapper",
                "drop extension suite_data cascade",
            ] {
                assert_eq!(run(&mut session, refused).await, Err("42501".to_owned()), "{refused}");
            }
            let both = with(vec![Extension::named("suite_top"), Extension::named("suite_data")]);
            let lease = setting.lease_of_build(&both, "second", "insert into top values (1)").await;
            let mut session = setting.suite.enter(&lease).await;
            assert_eq!(run(&mut session, "create server s foreign data wrapper suite_wrapper").await, Ok(()));
            setting.suite.backend.close().await;
        });
    }
}
