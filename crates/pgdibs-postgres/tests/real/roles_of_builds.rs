//! Roles in builds: those that the pool lists, and what the builds of a superuser pool make.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::name::{Fingerprint, RoleName};
use pgdibs_core::pool::{LoginRights, PoolPatch};
use pgdibs_postgres::rights::Rights;

use crate::support::setting::{on_each_server, run, text};

#[test]
fn build_gives_objects_and_rights_to_listed_roles() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let roles = ["reader", "Writer 2"].map(|name| RoleName::parse("roles", name).unwrap());
            let patch =
                PoolPatch { warm: Some(1), spares: Some(0), roles: Some(roles.to_vec()), ..PoolPatch::default() };
            let migration = "grant reader to \"Writer 2\"; create table t (n int); alter table t owner to \"Writer 2\"; grant select on t to reader;
                alter table t enable row level security; create policy p on t to reader using (true);
                alter default privileges for role \"Writer 2\" grant select on tables to reader;
                set role \"Writer 2\"; create table later (n int); reset role";
            let lease = setting.lease_of_build(&patch, "first", migration).await;
            let mut session = setting.suite.enter(&lease).await;
            let owners = "select string_agg(tablename || ' ' || tableowner, ', ' order by tablename) from pg_tables where schemaname = 'public'";
            assert_eq!(text(&mut session, owners).await, "later Writer 2, t Writer 2");
            assert_eq!(run(&mut session, "set role reader; select * from t, later; reset role").await, Ok(()));
            // The build's help is gone, and no lease can make others members.
            if setting.suite.backend.facts().major >= 15 {
                let sql = "has_schema_privilege('Writer 2', 'public', 'create')";
                assert_eq!(text(&mut session, sql).await, "false");
            }
            assert_eq!(text(&mut session, "pg_has_role('Writer 2', 'reader', 'usage')").await, "true");
            for refused in ["grant \"Writer 2\" to reader", "create role another", "alter role reader login"] {
                assert_eq!(run(&mut session, refused).await, Err("42501".to_owned()), "{refused}");
            }
            let admins = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.roleid join pg_roles o on o.oid = m.member
                          where r.rolname in ('reader', 'Writer 2') and o.rolname = 'pgdibs_suite' and m.admin_option";
            assert_eq!(setting.cluster.text("postgres", admins).await, "0");
            // While the pool builds, its leases have the right too; what they granted with it ends when the build fails.
            setting.cluster.sql("postgres", "create role outsider").await;
            let fingerprint = Fingerprint::parse("second").unwrap();
            setting.suite.begin_build(&fingerprint, "two").await;
            setting.suite.idle().await;
            assert_eq!(run(&mut session, "grant reader to outsider").await, Ok(()));
            setting.suite.backend.abandon_build(&setting.suite.pool, &fingerprint, "two", "a test").await.unwrap();
            setting.suite.idle().await;
            assert_eq!(setting.cluster.text("postgres", admins).await, "0");
            let outsider = "select pg_has_role('outsider', 'reader', 'member') || ' ' || pg_has_role('Writer 2', 'reader', 'usage')";
            assert_eq!(setting.cluster.text("postgres", outsider).await, "false true");
        });
    }
}

/// What only a superuser may own stays with the daemon's role, so that the seal can give away the rest.
#[test]
fn superuser_pool_builds_as_superuser() {
    on_each_server(Rights::Superuser, async |setting| {
        let patch =
            PoolPatch { warm: Some(1), spares: Some(0), login: Some(LoginRights::Superuser), ..PoolPatch::default() };
        let migration = "create role a; create role b; grant a to b; create table t (n int); alter table t owner to a;
            create table mine (n int); create extension pageinspect; create foreign data wrapper w;
            create function f() returns event_trigger language plpgsql as 'begin end'; create event trigger e on ddl_command_end execute function f();
            create subscription s connection 'host=localhost' publication p with (connect = false);
            create publication everything for all tables;
            do $$ begin execute format('alter database %I set work_mem to %L', current_database(), '7MB'); end $$";
        let lease = setting.lease_of_build(&patch, "first", migration).await;
        let mut session = setting.suite.enter(&lease).await;
        let owners = "select string_agg(tablename || ' ' || tableowner, ', ' order by tablename) from pg_tables where schemaname = 'public'";
        assert_eq!(text(&mut session, owners).await, "mine pgdibs_suite, t a");
        assert_eq!(text(&mut session, "select count(*) from pg_event_trigger").await, "1");
        assert_eq!(text(&mut session, "pg_has_role('b', 'a', 'member')").await, "true");
        assert_eq!(
            text(&mut session, "current_setting('work_mem')").await,
            "7MB",
            "`alter database … set` of the migration"
        );
        let left = "select count(*) from pg_roles where rolname ~ '^pgdibs_l_' and rolsuper";
        assert_eq!(setting.cluster.text("postgres", left).await, "1", "the lease's login; the build's is dropped");
    });
}
