//! Pools whose logins have further rights: what they can do, what is dropped with them, and which daemon can give such rights.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::Error;
use pgdibs_core::lease::End;
use pgdibs_core::pool::{LoginRights, PoolPatch};
use pgdibs_postgres::purge::{inventory, purge};
use pgdibs_postgres::rights::Rights;
use pgdibs_postgres::sqlstate;
use pgdibs_testing::conformance::ConformanceServer as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::support::setting::{Setting, on_each_server};

async fn pool_with(setting: &Setting, patch: PoolPatch) {
    setting.suite.ready_pool(2, 2, 1).await;
    setting.suite.backend.put_pool(&setting.suite.pool, &patch).await.unwrap();
    setting.suite.idle().await;
}

fn login(rights: LoginRights) -> PoolPatch {
    PoolPatch { login: Some(rights), ..PoolPatch::default() }
}

#[test]
fn databases_of_createdb_login_are_dropped_with_it() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            let logins = suite.server.logins().await;
            pool_with(setting, login(LoginRights::CreateDb)).await;
            let lease = suite.take(suite.acquire_request()).await;
            let mut session = suite.enter(&lease).await;
            // It acts as itself, and inherits the rights of the objects' owner.
            for sql in [
                "create database \"Test of \"\"mine\"\"\"",
                "create table own (n int)",
                "alter table marks add column further int",
                "truncate marks restart identity",
            ] {
                session.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            let credentials = lease.credentials.clone().unwrap();
            let options =
                setting.cluster.options(&credentials.user, credentials.password.expose_secret(), "Test of \"mine\"");
            let mut inside = PgConnection::connect_with(&options).await.unwrap();
            inside.execute("create table t (n int); insert into t values (1)").await.unwrap();

            suite.release(&lease).await;
            suite.idle().await;
            assert!(inside.execute("select 1").await.is_err(), "its sessions elsewhere are ended as well");
            let left = "select count(*) from pg_database where datname like 'Test of%'";
            assert_eq!(setting.cluster.text("postgres", left).await, "0");
            suite.finish(&logins).await;
        });
    }
}

#[test]
fn superuser_login_is_superuser_and_loses_its_databases() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        pool_with(setting, login(LoginRights::Superuser)).await;
        let lease = suite.take(suite.acquire_request()).await;
        let mut session = suite.enter(&lease).await;
        for sql in ["create extension pg_buffercache", "create database another", "create role elsewhere"] {
            session.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        // pgdibs does not drop what it owns in a foreign database: the login stays, closed.
        setting
            .cluster
            .sql(
                "postgres",
                &format!(
                    "create table thing (n int); alter table thing owner to {}",
                    lease.credentials.as_ref().unwrap().user
                ),
            )
            .await;
        let user = lease.credentials.clone().unwrap().user;
        suite.release(&lease).await;
        suite.idle().await;
        let left = "select count(*) from pg_database where datname = 'another'";
        assert_eq!(setting.cluster.text("postgres", left).await, "0");
        let can = format!("select rolcanlogin from pg_roles where rolname = '{user}'");
        assert_eq!(setting.cluster.text("postgres", &can).await, "false");
        setting.cluster.sql("postgres", "drop table thing").await;
        suite.idle().await;
        let remaining = format!("select count(*) from pg_roles where rolname = '{user}'");
        assert_eq!(setting.cluster.text("postgres", &remaining).await, "0", "garbage collection has dropped it");
    });
}

/// Regression: roles that a superuser's lease made stayed and could log in.
#[test]
fn roles_connected_with_superuser_login_are_dropped_with_it() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        setting.cluster.sql("postgres", "create role older login").await;
        pool_with(setting, login(LoginRights::Superuser)).await;
        let lease = suite.take(suite.acquire_request()).await;
        let mut session = suite.enter(&lease).await;
        for sql in [
            "create role app login",
            "grant app to current_user",
            "create role child login in role current_user",
            "create database of_app owner app",
            "create role unconnected login",
            "grant older to current_user",
        ] {
            let sql = sql.replace("current_user", &lease.credentials.as_ref().unwrap().user);
            session.execute(AssertSqlSafe(sql.clone())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        suite.release(&lease).await;
        suite.idle().await;
        let roles = "select string_agg(rolname, ' ' order by rolname) from pg_roles where rolname in ('app', 'child', 'older', 'unconnected')";
        assert_eq!(setting.cluster.text("postgres", roles).await, "older unconnected");
        assert_eq!(databases_named_like(setting, "of\\_app").await, "0");
    });
}

#[test]
fn put_pool_refuses_rights_that_daemon_lacks() {
    on_each_server(Rights::DatabasesAndRoles, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(1, 1, 0).await;
        match suite.backend.put_pool(&suite.pool, &login(LoginRights::Superuser)).await {
            Err(Error::Invalid(why)) => assert_eq!(why.field, "login", "{why}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn clones_with_logins_of_earlier_settings_retire() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 2, 1).await;
        let before: Vec<_> = suite.in_state(DatabaseState::Ready).await.into_iter().map(|d| d.id).collect();
        suite.backend.put_pool(&suite.pool, &login(LoginRights::CreateDb)).await.unwrap();
        assert!(suite.in_state(DatabaseState::Ready).await.is_empty());
        suite.idle().await;
        let after: Vec<_> = suite.in_state(DatabaseState::Ready).await.into_iter().map(|d| d.id).collect();
        assert!(after.len() == 2 && after.iter().all(|id| !before.contains(id)), "{before:?} {after:?}");
        suite.backend.put_pool(&suite.pool, &login(LoginRights::CreateDb)).await.unwrap();
        assert_eq!(suite.in_state(DatabaseState::Ready).await.len(), 2, "the same again changes nothing");
    });
}

#[test]
fn login_has_connection_limit_of_pool() {
    on_each_server(Rights::DatabasesAndRoles, async |setting| {
        let suite = &setting.suite;
        pool_with(setting, PoolPatch { connection_limit: Some(1), ..PoolPatch::default() }).await;
        let lease = suite.take(suite.acquire_request()).await;
        let session = suite.enter(&lease).await;
        let credentials = lease.credentials.clone().unwrap();
        let options =
            setting.cluster.options(&credentials.user, credentials.password.expose_secret(), &lease.database_name);
        let refused = PgConnection::connect_with(&options).await.expect_err("one is there already");
        assert_eq!(sqlstate::code(&refused).as_deref(), Some("53300"), "{refused}");
        suite.server.disconnect(session).await;
        assert!(suite.backend.end_lease(lease.id, End::Released, "the end").await.unwrap());
    });
}

/// Regression: a purge that failed at a role could not go on, because it had dropped the catalog first (found by a second reading).
#[test]
fn purge_drops_databases_of_logins_and_can_be_repeated() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        pool_with(setting, login(LoginRights::CreateDb)).await;
        let lease = suite.take(suite.acquire_request()).await;
        let mut session = suite.enter(&lease).await;
        session.execute("create database made_by_a_test").await.unwrap();
        session.execute("create database handed_over").await.unwrap();
        session.execute("alter database handed_over owner to pgdibs_suite").await.unwrap();
        suite.server.disconnect(session).await;
        suite.backend.close().await;
        // An administrator gave an object to the role: it cannot be dropped, and pgdibs does not drop the object.
        setting
            .cluster
            .sql("postgres", "create table precious (n int); alter table precious owner to pgdibs_suite")
            .await;
        let url: SecretString = setting.cluster.url().into();
        let found = inventory(&url).await.unwrap();
        assert!(found.databases.contains(&"made_by_a_test".to_owned()), "{found:?}");
        let stopped = purge(&url).await.expect_err("the role has something").to_string();
        assert!(stopped.contains("\"pgdibs_suite\" cannot be dropped"), "{stopped}");
        let left = "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate";
        assert_eq!(setting.cluster.text("postgres", left).await, "pgdibs postgres", "the catalog goes last");
        setting.cluster.sql("postgres", "alter table precious owner to current_user").await;
        let done = purge(&url).await.unwrap();
        assert!(done.contains(&"dropped role pgdibs_suite".to_owned()), "{done:?}");
        assert_eq!(setting.cluster.text("postgres", left).await, "postgres");
        let roles = "select count(*) from pg_roles where rolname like 'pgdibs%'";
        assert_eq!(setting.cluster.text("postgres", roles).await, "0");
    });
}

/// The owner of a database as `pg_database` has it.
async fn give_away(setting: &Setting, database: &str, owner: &str) {
    setting.cluster.sql("postgres", &format!("alter database {database} owner to {owner}")).await;
}

async fn databases_named_like(setting: &Setting, pattern: &str) -> String {
    let sql = format!("select count(*) from pg_database where datname like '{pattern}'");
    setting.cluster.text("postgres", &sql).await
}

/// Regression: the drop of such a database reported success without dropping it, so that it was planned 50 times a second.
#[test]
fn database_that_superuser_lease_gave_away_is_dropped() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        let logins = suite.server.logins().await;
        pool_with(setting, login(LoginRights::Superuser)).await;
        setting.cluster.sql("postgres", "create role another").await;
        let (first, second) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let first_login = first.credentials.clone().unwrap().user;
        let mut session = suite.enter(&first).await;
        let sql = format!("alter database {} owner to another", first.database_name);
        session.execute(AssertSqlSafe(sql)).await.unwrap();
        let sql = format!("alter database {} owner to {first_login}", second.database_name);
        session.execute(AssertSqlSafe(sql)).await.unwrap();
        suite.idle().await;
        assert_eq!(suite.in_state(DatabaseState::Leased).await.len(), 2, "both leases live");
        suite.release(&first).await;
        suite.idle().await;
        let mut session = suite.enter(&second).await;
        session.execute("select 1").await.expect("the end of the first lease leaves the database of the second alone");
        suite.release(&second).await;
        suite.idle().await;
        assert_eq!(databases_named_like(setting, "%\\_old\\_%").await, "0");
        setting.cluster.sql("postgres", "drop role another").await;
        suite.finish(&logins).await;
    });
}

#[test]
fn drop_of_database_taken_over_by_another_role_fails_with_its_owner() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        setting.cluster.sql("postgres", "create role another").await;
        let lease = suite.take(suite.acquire_request()).await;
        give_away(setting, &lease.database_name, "another").await;
        suite.release(&lease).await;
        let failures = setting.idle_with_failures().await;
        let why = "belongs to role \"another\" now";
        assert!(failures.iter().any(|failure| failure.contains(why)), "{failures:?}");
        let row = "select last_error from databases where last_error is not null";
        assert!(setting.catalog_text(row).await.contains(why));
        assert_eq!(databases_named_like(setting, "%\\_old\\_%").await, "1", "it is left alone");
        // The next attempt is due at once, and finds the owner restored.
        let used = setting.catalog_text("select name from databases where last_error is not null").await;
        give_away(setting, &used, "pgdibs_owner").await;
        setting.catalog("update databases set retry_at = now()").await;
        suite.idle().await;
        setting.cluster.sql("postgres", "drop role another").await;
        suite.finish(&[]).await;
    });
}
