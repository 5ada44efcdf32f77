//! What the sessions of a lease may do to each other, as the pool's owner and as their login, and never to those of another lease.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::Lease;
use pgdibs_core::pool::{ActAs, LoginRights, PoolPatch};
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;
use sqlx::postgres::PgConnection;

use crate::support::setting::{Setting, on_each_server, run, text};

const BOTH: [Rights; 2] = [Rights::Superuser, Rights::DatabasesAndRoles];

/// What a session gets from the three functions for another one: whether it sees its query, and the results of cancel and terminate.
async fn tries(actor: &mut PgConnection, target: &mut PgConnection) -> (bool, Result<(), String>, Result<(), String>) {
    let pid = text(target, "pg_backend_pid()").await;
    let seen = text(actor, &format!("select query from pg_stat_activity where pid = {pid}")).await;
    let cancelled = run(actor, &format!("select pg_cancel_backend({pid})")).await;
    let terminated = run(actor, &format!("select pg_terminate_backend({pid})")).await;
    (seen.contains("pg_backend_pid"), cancelled, terminated)
}

fn refused() -> (bool, Result<(), String>, Result<(), String>) {
    (false, Err("42501".to_owned()), Err("42501".to_owned()))
}

fn allowed() -> (bool, Result<(), String>, Result<(), String>) {
    (true, Ok(()), Ok(()))
}

async fn two_leases(setting: &Setting, patch: PoolPatch) -> [Lease; 2] {
    let suite = &setting.suite;
    suite.ready_pool(2, 2, 1).await;
    suite.backend.put_pool(&suite.pool, &patch).await.unwrap();
    suite.idle().await;
    [suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await]
}

#[test]
fn owner_ends_own_leases_sessions_after_set_role_none() {
    for rights in BOTH {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            let [own, other] = two_leases(setting, PoolPatch::default()).await;
            let (mut actor, mut stranger) = (suite.enter(&own).await, suite.enter(&other).await);
            assert_eq!(tries(&mut actor, &mut suite.enter(&own).await).await, refused(), "as the owner");
            run(&mut actor, "set role none").await.unwrap();
            assert_eq!(tries(&mut actor, &mut stranger).await, refused(), "another lease's session");
            assert_eq!(tries(&mut actor, &mut suite.enter(&own).await).await, allowed(), "as the login");
            assert_eq!(text(&mut stranger, "1").await, "1");
        });
    }
}

#[test]
fn act_as_login_ends_own_leases_sessions_unaided() {
    on_each_server(Rights::DatabasesAndRoles, async |setting| {
        let suite = &setting.suite;
        let patch = PoolPatch { act_as: Some(ActAs::Login), ..PoolPatch::default() };
        let [own, other] = two_leases(setting, patch).await;
        let (mut actor, mut stranger) = (suite.enter(&own).await, suite.enter(&other).await);
        assert_eq!(tries(&mut actor, &mut stranger).await, refused(), "another lease's session");
        assert_eq!(tries(&mut actor, &mut suite.enter(&own).await).await, allowed());
        // It is itself, and inherits the owner's rights on the template's tables.
        assert_eq!(text(&mut actor, "current_user = session_user").await, "true");
        run(&mut actor, "alter table marks add column further int; truncate marks; create table own (n int)")
            .await
            .unwrap();
        let owner = "select tableowner = current_user from pg_tables where tablename = 'own'";
        assert_eq!(text(&mut actor, owner).await, "true");
        // A reset keeps it so.
        suite.backend.begin_reset(own.id, None, None).await.unwrap();
        suite.idle().await;
        let mut after = suite.enter(&own).await;
        assert_eq!(text(&mut after, "current_user = session_user and to_regclass('own') is null").await, "true");
        suite.server.disconnect(after).await;
        for lease in [&own, &other] {
            suite.release(lease).await;
        }
        suite.finish(&[]).await;
    });
}

#[test]
fn lease_has_no_rights_over_sessions_and_statistics() {
    for rights in BOTH {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(1, 1, 0).await;
            for login in [LoginRights::Plain, LoginRights::CreateDb] {
                for act_as in [ActAs::Owner, ActAs::Login] {
                    let patch = PoolPatch { login: Some(login), act_as: Some(act_as), ..PoolPatch::default() };
                    suite.backend.put_pool(&suite.pool, &patch).await.unwrap();
                    suite.idle().await;
                    let members = "select count(*) from pg_roles r cross join unnest(array['pg_signal_backend', 'pg_read_all_stats', 'pg_monitor']) as p
                                   where r.rolname like 'pgdibs\\_%' and not r.rolsuper and pg_has_role(r.oid, p::name, 'member')";
                    assert_eq!(setting.cluster.text("postgres", members).await, "0", "{login:?} {act_as:?}");
                }
            }
            // Nor by an owner that has them.
            setting.cluster.sql("postgres", "create role watcher; grant pg_monitor to watcher").await;
            let watcher = pgdibs_core::name::RoleName::parse("owner", "watcher").unwrap();
            let patch = PoolPatch { owner: Some(watcher), ..PoolPatch::default() };
            let refused = suite.backend.put_pool(&suite.pool, &patch).await.unwrap_err().to_string();
            assert!(refused.contains("with its rights over the whole server"), "{refused}");
        });
    }
}
