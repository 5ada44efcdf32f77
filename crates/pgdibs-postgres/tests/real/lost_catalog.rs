//! A server with databases of pgdibs whose catalog was renamed or dropped.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::Lease;
use pgdibs_postgres::connect::{ConnectError, ServerAddress, prepare};
use pgdibs_postgres::rights::Rights;
use sqlx::Executor as _;

use crate::support::setting::{Setting, on_each_server};

async fn refused(setting: &Setting) -> String {
    let address = ServerAddress::parse(&setting.cluster.url().into()).unwrap();
    match prepare(&address).await {
        Err(ConnectError::Unusable(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("an empty catalog was made"),
    }
}

async fn rename(setting: &Setting, from: &str, to: &str) {
    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{from}'");
    setting.cluster.sql("postgres", &format!("alter database {from} allow_connections = false; {end}")).await;
    setting
        .cluster
        .until_text("postgres", &format!("select count(*) from pg_stat_activity where datname = '{from}'"), "0")
        .await;
    setting.cluster.sql("postgres", &format!("alter database {from} rename to {to}")).await;
    setting.cluster.sql("postgres", &format!("alter database {to} allow_connections = true")).await;
}

#[test]
fn renamed_catalog_is_not_replaced_and_leases_survive() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(2, 2, 1).await;
            let lease: Lease = suite.take(suite.acquire_request()).await;
            let mut session = suite.enter(&lease).await;
            rename(setting, "pgdibs", "taken_away").await;

            let why = refused(setting).await;
            let made = "select string_agg(datname, ',' order by datname) from pg_database d join pg_roles o on o.oid = datdba where rolname = 'pgdibs_owner'";
            for name in setting.cluster.text("postgres", made).await.split(',') {
                assert!(why.contains(&format!("\ndropdb '{name}'")), "{name}: {why}");
            }
            assert!(why.contains("rename to pgdibs"), "{why}");
            let there = "select count(*) from pg_database where datname = 'pgdibs'";
            assert_eq!(setting.cluster.text("postgres", there).await, "0");

            rename(setting, "taken_away", "pgdibs").await;
            let again = setting.another_backend().await;
            assert!(again.acquire_leadership().await.is_ok());
            session.execute("select 1").await.unwrap_or_else(|error| panic!("the lease's session: {error}"));
            drop(suite.enter(&lease).await);
            assert_eq!(again.lease(lease.id).await.unwrap().state, pgdibs_core::lease::LeaseState::Live);
            again.close().await;
        });
    }
}

#[test]
fn garbage_collection_spares_login_with_connect() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let lease = suite.take(suite.acquire_request()).await;
        // As in a catalog that does not have the lease.
        setting.catalog("create table saved as table leases; create table saved_databases as table databases").await;
        setting.catalog("delete from leases; delete from databases").await;
        suite.backend.collect_garbage().await.unwrap();
        drop(suite.enter(&lease).await);
        // A login whose database was dropped.
        setting.cluster.sql("postgres", &format!("drop database {} with (force)", lease.database_name)).await;
        suite.backend.collect_garbage().await.unwrap();
        let user = &lease.credentials.as_ref().unwrap().user;
        let left = format!("select count(*) from pg_roles where rolname = '{user}'");
        assert_eq!(setting.cluster.text("postgres", &left).await, "0");
    });
}

#[test]
fn acquire_skips_database_with_closed_login() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let login = setting.catalog_text("select login from databases where state = 'ready'").await;
        setting.cluster.sql("postgres", &format!("alter role {login} nologin")).await;
        suite.must_wait(suite.acquire_request()).await;
        suite.idle().await;
        let lease = suite.take(suite.acquire_request()).await;
        drop(suite.enter(&lease).await);
        assert_ne!(lease.credentials.unwrap().user, login, "another database with another login stands there");
    });
}
