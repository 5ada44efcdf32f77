//! Owner roles and templates of pools: what a lease of one pool cannot do to another pool, and which roles pgdibs uses.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::error::Error;
use pgdibs_core::lease::Credentials;
use pgdibs_core::name::{Fingerprint, PoolName, RoleName};
use pgdibs_core::pool::{LoginRights, PoolPatch};
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;
use pgdibs_testing::conformance::Suite;
use secrecy::ExposeSecret as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::support::external::External;
use crate::support::setting::{PgSuite, Setting, on_each_server, on_each_server_with, run};

const BOTH: [Rights; 2] = [Rights::Superuser, Rights::DatabasesAndRoles];

/// The suite for a second pool, with another daemon of the same server.
async fn second_pool(setting: &Setting) -> PgSuite {
    let backend = setting.another_backend().await;
    Suite::new(backend, External::of(&setting.cluster), PoolName::parse("other").unwrap())
}

/// Starts a build of the second pool; the leading daemon creates it.
async fn begun(setting: &Setting, other: &PgSuite) -> (Fingerprint, Credentials, String) {
    let fingerprint = Fingerprint::parse("first").unwrap();
    let template = other.begin_build(&fingerprint, "one").await;
    setting.suite.idle().await;
    let place = other.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
    (fingerprint, place.credentials, place.database.to_string())
}

#[test]
fn lease_cannot_change_settings_of_other_pools_build() {
    for rights in BOTH {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(1, 1, 0).await;
            let other = second_pool(setting).await;
            other.make_pool(1, 1, 0).await;
            let (fingerprint, credentials, database) = begun(setting, &other).await;
            let lease = suite.take(suite.acquire_request()).await;
            let mut tenant = suite.enter(&lease).await;
            for role in ["", "set role none;"] {
                let sql = format!("{role} alter role current_user in database {database} set work_mem = '1MB'");
                assert_eq!(run(&mut tenant, &sql).await, Ok(()), "Postgres lets every role set that for itself");
            }
            for refused in [
                format!("alter role pgdibs_other in database {database} set work_mem = '1MB'"),
                format!("alter role {} in database {database} set work_mem = '1MB'", credentials.user),
                format!("alter database {database} set work_mem = '1MB'"),
                "set role pgdibs_other".to_owned(),
            ] {
                assert_eq!(run(&mut tenant, &refused).await, Err("42501".to_owned()), "{refused}");
            }
            let mut builder = other.server.connect(&credentials, &database).await.unwrap();
            let own = format!("alter role current_user in database {database} set statement_timeout = '7s'");
            assert_eq!(run(&mut builder, &own).await, Ok(()));
            other.server.disconnect(builder).await;
            other.backend.request_seal(&other.pool, &fingerprint, "one").await.unwrap();
            suite.idle().await;
            let settings = setting.catalog_text("select settings from templates where pool = 'other'").await;
            assert_eq!(settings, "{statement_timeout=7s}", "only what its own build set");
            let of_the_clone = "select string_agg(s.setconfig::text, ' ') from pg_db_role_setting s
                join pg_database d on d.oid = s.setdatabase where d.datname = 'other_gw0'";
            assert_eq!(setting.cluster.text("postgres", of_the_clone).await, "{statement_timeout=7s}");
            suite.server.disconnect(tenant).await;
            other.backend.close().await;
        });
    }
}

#[test]
fn template_settings_leave_out_acting_role() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(1, 1, 0).await;
        let (fingerprint, credentials, database) = {
            let fingerprint = Fingerprint::parse("first").unwrap();
            let template = suite.begin_build(&fingerprint, "one").await;
            suite.idle().await;
            let place = suite.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
            (fingerprint, place.credentials, place.database.to_string())
        };
        let mut builder = suite.server.connect(&credentials, &database).await.unwrap();
        for (name, value) in [("role", "none"), ("session_authorization", "pgdibs_suite"), ("work_mem", "2MB")] {
            let sql = format!("alter role current_user in database {database} set {name} = '{value}'");
            assert_eq!(run(&mut builder, &sql).await, Ok(()), "{sql}");
        }
        suite.server.disconnect(builder).await;
        suite.backend.request_seal(&suite.pool, &fingerprint, "one").await.unwrap();
        suite.idle().await;
        let settings = setting.catalog_text("select settings from templates").await;
        assert_eq!(settings, "{work_mem=2MB}");
    });
}

#[test]
fn createdb_lease_cannot_copy_or_read_templates() {
    for rights in BOTH {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            let createdb = PoolPatch { login: Some(LoginRights::CreateDb), ..PoolPatch::default() };
            suite.make_pool(1, 1, 0).await;
            suite.backend.put_pool(&suite.pool, &createdb).await.unwrap();
            suite.build(&Fingerprint::parse("first").unwrap()).await;
            let other = second_pool(setting).await;
            other.make_pool(1, 1, 0).await;
            let (fingerprint, credentials, database) = begun(setting, &other).await;
            let mut builder = other.server.connect(&credentials, &database).await.unwrap();
            assert_eq!(run(&mut builder, "create table secret (n int)").await, Ok(()));
            let lease = suite.take(suite.acquire_request()).await;
            let mut session = suite.enter(&lease).await;
            let forbidden = Err("42501".to_owned());
            assert_eq!(run(&mut session, &format!("create database mine template {database}")).await, forbidden);
            other.server.disconnect(builder).await;
            other.backend.request_seal(&other.pool, &fingerprint, "one").await.unwrap();
            suite.idle().await;

            let flagged = "select count(*) from pg_database where datistemplate and datname not like 'template_'";
            assert_eq!(setting.cluster.text("postgres", flagged).await, "0");
            let templates = setting.suite.snapshot().await.templates;
            assert_eq!(templates.len(), 2);
            for template in &templates {
                let copy = format!("create database mine template {}", template.name);
                assert_eq!(run(&mut session, &copy).await, forbidden, "{copy}");
                // Postgres 15 and later.
                if suite.backend.facts().major >= 15 {
                    let copy = format!("{copy} strategy file_copy");
                    assert_eq!(run(&mut session, &copy).await, forbidden, "{copy}");
                }
                let entered = suite.server.connect(lease.credentials.as_ref().unwrap(), template.name.as_str()).await;
                assert!(entered.is_err(), "{}", template.name);
            }
            // The grant exists all the same, and clones succeed.
            assert_eq!(run(&mut session, "create database mine").await, Ok(()));
            suite.server.disconnect(session).await;
            suite.release(&lease).await;
            suite.idle().await;
            assert_eq!(suite.ready_names().await, [suite.slot(0)]);
            other.backend.close().await;
        });
    }
}

#[test]
fn foreign_role_is_not_used_as_pools_own() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        setting.cluster.sql("postgres", "create role pgdibs_suite").await;
        let own = RoleName::of_pool(&suite.pool);
        for patch in [PoolPatch::default(), PoolPatch { owner: Some(own.clone()), ..PoolPatch::default() }] {
            match suite.backend.put_pool(&suite.pool, &patch).await {
                Err(Error::Invalid(why)) => {
                    assert_eq!(why.field, "owner");
                    assert!(why.rule.contains("\"pgdibs_suite\" exists and was not made by pgdibs"), "{why}");
                    assert!(why.rule.contains("name another `owner`"), "{why}");
                }
                other => panic!("{other:?}"),
            }
        }
        setting.cluster.sql("postgres", "drop role pgdibs_suite").await;
        suite.make_pool(1, 1, 0).await;
        // Between the pool and its first build.
        setting.cluster.sql("postgres", "create role pgdibs_suite").await;
        suite.begin_build(&Fingerprint::parse("first").unwrap(), "one").await;
        let failures = setting.idle_with_failures().await;
        assert!(failures[0].contains("role \"pgdibs_suite\" exists and was not made by pgdibs"), "{failures:?}");
        let members = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.roleid where r.rolname = 'pgdibs_suite'";
        assert_eq!(setting.cluster.text("postgres", members).await, "0", "no login became a member");
        suite.backend.drop_pool(&suite.pool, true).await.unwrap();
        suite.idle().await;
        assert!(suite.server.has_owner(&own).await, "a foreign role stays");
        // Once the role is dropped, everything works.
        setting.cluster.sql("postgres", "drop role pgdibs_suite").await;
        suite.ready_pool(1, 1, 0).await;
    });
}

#[test]
fn role_with_dependents_is_dropped_later() {
    for rights in BOTH {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            let own = RoleName::of_pool(&suite.pool);
            let logins = suite.server.logins().await;
            suite.ready_pool(1, 1, 0).await;
            setting
                .cluster
                .sql("postgres", "create table theirs (n int); alter table theirs owner to pgdibs_suite")
                .await;
            suite.finish(&logins).await;
            assert!(suite.server.has_owner(&own).await, "a table elsewhere belongs to it");
            suite.ready_pool(1, 1, 0).await;
            suite.finish(&logins).await;
            setting.cluster.sql("postgres", "drop table theirs").await;
            suite.idle().await;
            assert!(!suite.server.has_owner(&own).await, "the sweep has taken it");
            assert_eq!(setting.catalog_text("select count(*) from roles").await, "0");
        });
    }
}

#[test]
fn role_dropped_by_one_daemon_is_created_by_another() {
    on_each_server_with(&[], Rights::DatabasesAndRoles, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        // The second daemon takes over and drops the pool; the first one remembers the role from before.
        let second = setting.another_backend().await;
        suite.backend.step_down().await;
        assert!(second.acquire_leadership().await.unwrap());
        let second = Suite::new(second, External::of(&setting.cluster), suite.pool.clone());
        second.finish(&[]).await;
        assert!(!suite.server.has_owner(&RoleName::of_pool(&suite.pool)).await);
        second.backend.step_down().await;
        assert!(suite.backend.acquire_leadership().await.unwrap());
        suite.ready_pool(1, 1, 0).await;
        let lease = suite.take(suite.acquire_request()).await;
        let credentials = lease.credentials.as_ref().unwrap();
        let options =
            setting.cluster.options(&credentials.user, credentials.password.expose_secret(), &lease.database_name);
        let mut session = PgConnection::connect_with(&options).await.unwrap();
        let user: String = sqlx::query_scalar("select current_user::text").fetch_one(&mut session).await.unwrap();
        assert_eq!(user, "pgdibs_suite");
        second.backend.close().await;
    });
}
