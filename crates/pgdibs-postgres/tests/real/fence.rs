//! Locks of a tenant's open or prepared transaction: none of them prevents the end of a lease.
//!
//! The databases of a pool grant CREATE to the pool's owner role, as which its sessions act, so a session may lock the row of its
//! own database and of its siblings (`grant`); after `set role none` it may lock its login's own.

use std::time::{Duration, Instant};

use pgdibs_core::backend::Backend as _;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::StepError;
use pgdibs_core::lease::Lease;
use pgdibs_core::plan::{Step, plan};
use pgdibs_core::request::ResetBegun;
use pgdibs_postgres::rights::Rights;
use pgdibs_postgres::sqlstate;
use pgdibs_testing::conformance::ConformanceServer as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::at_once;
use crate::support::external::session;
use crate::support::setting::{Setting, nothing_under_way, on_each_server_with};

/// Longest time from the end of a lease until its session is dead and its URL refused.
const PROMISED: Duration = Duration::from_secs(2);

/// What a tenant runs; `{own}` is its database, `{sibling}` that of another lease of its pool, `{login}` the login of that one.
const HOLDS: [(&str, &str); 8] = [
    ("a grant on its own database", "begin; grant create on database {own} to current_user"),
    ("a grant on a sibling", "begin; grant create on database {sibling} to current_user"),
    ("a change of its password", "begin; set local role none; alter role current_user password 'mine'"),
    ("drop owned", "begin; drop owned by current_user"),
    // Any role may do that: it locks the database as an object, which a rename and a drop lock exclusively.
    ("a setting for a sibling", "begin; alter role current_user in database {sibling} set work_mem to '1MB'"),
    // It locks the login as an object, which its drop locks exclusively.
    ("a grant to a sibling's login", "begin; create table t (n int); grant select on t to {login}"),
    ("a prepared grant on its own", "begin; grant create on database {own} to current_user; prepare transaction 'own'"),
    (
        "a prepared grant on a sibling",
        "begin; grant create on database {sibling} to current_user; prepare transaction 'sibling'",
    ),
];

async fn hold(setting: &Setting, tenant: &Lease, sibling: &Lease, sql: &str) -> PgConnection {
    let mut session = setting.suite.enter(tenant).await;
    let login = &sibling.credentials.as_ref().unwrap().user;
    let sql = sql
        .replace("{own}", &tenant.database_name)
        .replace("{sibling}", &sibling.database_name)
        .replace("{login}", login);
    session.execute(sqlx::raw_sql(AssertSqlSafe(sql.clone()))).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    session
}

/// Executes the plan once, as one activation of the daemon does; returns the time.
async fn activate(setting: &Setting) -> Duration {
    let steps = plan(&setting.suite.snapshot().await, &nothing_under_way());
    let began = Instant::now();
    for (step, result) in steps.iter().zip(setting.suite.backend.execute(&steps).await) {
        result.unwrap_or_else(|error| panic!("{step:?}: {error}"));
    }
    began.elapsed()
}

fn for_each_hold(rights: Rights, test: impl AsyncFn(&Setting, &str, &Lease, PgConnection, &Lease)) {
    on_each_server_with(&["max_prepared_transactions=10"], rights, async |setting| {
        let suite = &setting.suite;
        let logins = suite.server.logins().await;
        suite.ready_pool(2, 4, 2).await;
        for (what, sql) in HOLDS {
            println!("{what}");
            let (tenant, sibling) =
                (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
            let session = hold(setting, &tenant, &sibling, sql).await;
            test(setting, what, &tenant, session, &sibling).await;
            for lease in [&tenant, &sibling] {
                // One of them may have ended already.
                let _ = suite.backend.end_lease(lease.id, pgdibs_core::lease::End::Released, "the end").await;
            }
            suite.idle().await;
        }
        suite.finish(&logins).await;
    });
}

/// No lock of its own delays its return.
fn own_return(rights: Rights) {
    for_each_hold(rights, async |setting, what, tenant, mut session, _| {
        let suite = &setting.suite;
        suite.release(tenant).await;
        let began = Instant::now();
        activate(setting).await;
        assert!(began.elapsed() < PROMISED, "{what}: {:?}", began.elapsed());
        assert!(session.execute("select 1").await.is_err(), "{what}: the old session still answers");
        suite.assert_dead(tenant.credentials.as_ref().unwrap(), &[&tenant.database_name]).await;
    });
}

/// No lock of a live lease delays the return of a sibling.
fn siblings_return(rights: Rights) {
    for_each_hold(rights, async |setting, what, _, _session, sibling| {
        let suite = &setting.suite;
        let mut siblings = suite.enter(sibling).await;
        suite.release(sibling).await;
        let took = activate(setting).await;
        assert!(took < PROMISED, "{what}: {took:?}");
        assert!(siblings.execute("select 1").await.is_err(), "{what}: the old session still answers");
        // Its drop and that of its login do not wait either.
        suite.idle().await;
        let remaining =
            format!("select count(*) from pg_roles where rolname = '{}'", sibling.credentials.as_ref().unwrap().user);
        assert_eq!(setting.cluster.text("postgres", &remaining).await, "0", "{what}");
        suite.assert_dead(sibling.credentials.as_ref().unwrap(), &[&sibling.database_name]).await;
    });
}

#[test]
fn return_ends_all_holds_of_tenant_superuser() {
    own_return(Rights::Superuser);
}

#[test]
fn return_ends_all_holds_of_sibling_superuser() {
    siblings_return(Rights::Superuser);
}

/// Executes the plan once; returns the failed steps, with the reason.
async fn activate_with_failures(setting: &Setting) -> Vec<(Step, StepError)> {
    let steps = plan(&setting.suite.snapshot().await, &nothing_under_way());
    let results = setting.suite.backend.execute(&steps).await;
    steps.into_iter().zip(results).filter_map(|(step, result)| Some((step, result.err()?))).collect()
}

#[test]
fn foreign_lock_delays_no_other_return() {
    on_each_server_with(&[], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 4, 2).await;
        let (held, other) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let mut foreign = session(&setting.cluster.superuser_options("postgres")).await;
        foreign.execute("begin").await.unwrap();
        let alter = format!("alter database {} connection limit 7", held.database_name);
        foreign.execute(AssertSqlSafe(alter)).await.unwrap();
        suite.release(&held).await;
        suite.release(&other).await;
        let began = Instant::now();
        let failed = activate_with_failures(setting).await;
        assert!(began.elapsed() < PROMISED, "{:?}", began.elapsed());
        let [(Step::Return { .. }, StepError::Failed(why))] = &failed[..] else { panic!("{failed:?}") };
        assert!(why.contains("55P03"), "{why}");
        suite.assert_dead(other.credentials.as_ref().unwrap(), &[&other.database_name]).await;
        // The retry fences it apart, and it is dropped after the foreign transaction.
        setting.catalog("update databases set retry_at = now()").await;
        let steps = plan(&suite.snapshot().await, &nothing_under_way());
        assert!(steps.iter().any(|step| matches!(step, Step::Fence { .. })), "{steps:?}");
        foreign.execute("rollback").await.unwrap();
        suite.idle().await;
        suite.assert_dead(held.credentials.as_ref().unwrap(), &[&held.database_name]).await;
    });
}

/// Longest time for a reset while siblings of its lease grant in a loop.
const A_FEW_SECONDS: Duration = Duration::from_secs(8);

/// Grants on the database of a sibling, thousands of times a second, until its session is ended.
async fn grant_in_a_loop(setting: &Setting, lease: &Lease, sibling: &Lease) {
    let mut session = setting.suite.enter(lease).await;
    let grants = format!(
        "do $do$ begin loop
             begin grant create on database {} to current_user; exception when others then null; end;
             commit;
         end loop; end $do$",
        sibling.database_name
    );
    let ended = session.execute(AssertSqlSafe(grants)).await.expect_err("it never ends by itself");
    assert_eq!(sqlstate::code(&ended).as_deref(), Some("57P01"), "{ended}");
}

fn reset_beside_granting_siblings(rights: Rights) {
    on_each_server_with(&[], rights, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(4, 6, 2).await;
        let mut leases = Vec::new();
        for _ in 0..4 {
            leases.push(suite.take(suite.acquire_request()).await);
        }
        let resetting = leases.remove(0);
        suite.backend.begin_reset(resetting.id, None, None).await.unwrap();
        let reset = async {
            let granting = "select count(*) from pg_stat_activity where query like 'do $do$%' and state = 'active'";
            setting.cluster.until_text("postgres", granting, "3").await;
            let began = Instant::now();
            let mut failed = Vec::new();
            while suite.backend.lease(resetting.id).await.unwrap().generation == 1 && began.elapsed() < A_FEW_SECONDS {
                failed.extend(activate_with_failures(setting).await);
            }
            let generation = suite.backend.lease(resetting.id).await.unwrap().generation;
            let end = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'do $do$%'";
            setting.cluster.sql("postgres", end).await;
            (generation, began.elapsed(), failed)
        };
        let granting = at_once(leases.iter().map(|lease| grant_in_a_loop(setting, lease, &resetting)));
        let ((generation, took, failed), _) = tokio::join!(reset, granting);
        println!("{took:?} {failed:?}");
        assert_eq!(generation, 2, "not reset after {took:?}: {failed:?}");
        assert!(took < A_FEW_SECONDS && failed.is_empty(), "{took:?}: {failed:?}");
        suite.release(&resetting).await;
        suite.idle().await;
    });
}

#[test]
fn reset_succeeds_beside_granting_siblings_superuser() {
    reset_beside_granting_siblings(Rights::Superuser);
}

#[test]
fn failed_reset_is_retried_within_four_seconds() {
    on_each_server_with(&[], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 2, 1).await;
        let lease = suite.take(suite.acquire_request()).await;
        let mut foreign = session(&setting.cluster.superuser_options("postgres")).await;
        let hold = format!("begin; alter database {} connection limit 7", lease.database_name);
        foreign.execute(sqlx::raw_sql(AssertSqlSafe(hold))).await.unwrap();
        suite.backend.begin_reset(lease.id, None, None).await.unwrap();
        for attempt in 1..=4 {
            let failed = activate_with_failures(setting).await;
            assert!(matches!(&failed[..], [(_, StepError::Failed(_))]), "{failed:?}");
            let soon =
                "select attempts || ' ' || (retry_at <= now() + interval '4 s') from databases where state = 'leased'";
            assert_eq!(setting.catalog_text(soon).await, format!("{attempt} true"));
            setting.catalog("update databases set retry_at = now()").await;
        }
        foreign.execute("rollback").await.unwrap();
        suite.idle().await;
        assert_eq!(suite.backend.lease(lease.id).await.unwrap().generation, 2);
    });
}

/// A backend that reacts to nothing until it is dropped.
struct Stopped(nix::unistd::Pid);

impl Stopped {
    async fn backend_of(session: &mut PgConnection) -> Self {
        let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(session).await.unwrap();
        let process = nix::unistd::Pid::from_raw(process);
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGSTOP).unwrap();
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, nix::sys::signal::Signal::SIGCONT);
    }
}

#[test]
fn stuck_session_delays_no_other_return_or_reset() {
    on_each_server_with(&[], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(3, 5, 2).await;
        let (stuck, other) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let resetting = suite.take(suite.acquire_request()).await;
        let mut session = suite.enter(&stuck).await;
        let stopped = Stopped::backend_of(&mut session).await;
        suite.release(&stuck).await;
        suite.release(&other).await;
        suite.backend.begin_reset(resetting.id, None, None).await.unwrap();
        let began = Instant::now();
        let failed = activate_with_failures(setting).await;
        assert!(began.elapsed() < PROMISED, "{:?}", began.elapsed());
        assert!(matches!(&failed[..], [(Step::Return { .. }, StepError::Failed(_))]), "{failed:?}");
        assert_eq!(suite.backend.lease(resetting.id).await.unwrap().generation, 2, "its reset is done");
        suite.assert_dead(stuck.credentials.as_ref().unwrap(), &[&stuck.database_name]).await;
        // Its next attempt is a step of its own, on which the fast ones do not wait.
        setting.catalog("update databases set retry_at = now()").await;
        let steps = plan(&suite.snapshot().await, &nothing_under_way());
        assert!(steps.iter().any(|step| matches!(step, Step::Fence { .. })), "{steps:?}");
        assert!(!steps.iter().any(|step| matches!(step, Step::Return { .. })), "{steps:?}");
        drop(stopped);
        suite.idle().await;
        assert_eq!(suite.ready_names().await.len(), 3);
    });
}

#[test]
fn locked_spare_delays_no_return_or_reset() {
    on_each_server_with(&[], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(3, 6, 3).await;
        let (stuck, returned) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let resetting = suite.take(suite.acquire_request()).await;
        suite.idle().await;
        let spares = suite.in_state(DatabaseState::Spare).await;
        let mut session = suite.enter(&stuck).await;
        let held = spares.first().unwrap().name.as_str();
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(format!("begin; grant create on database {} to current_user", held))))
            .await
            .unwrap();
        let stopped = Stopped::backend_of(&mut session).await;
        setting.catalog("update databases set retry_at = now() + interval '1 hour' where state = 'spare'").await;
        setting.catalog(&format!("update databases set retry_at = null where name = '{held}'")).await;
        let reserved = suite.backend.begin_reset(resetting.id, None, None).await.unwrap();
        assert!(matches!(reserved, ResetBegun::Reserved { .. }), "{reserved:?}");
        setting.catalog("update databases set retry_at = null where state = 'spare'").await;
        suite.release(&returned).await;
        let began = Instant::now();
        // No drop, which waits for every backend of the server to answer.
        let activate_fast = async || {
            let steps = plan(&suite.snapshot().await, &nothing_under_way());
            let steps: Vec<Step> = steps.into_iter().filter(|step| !step.is_slow()).collect();
            for (step, result) in steps.iter().zip(suite.backend.execute(&steps).await) {
                assert!(matches!(result, Ok(()) | Err(StepError::Stale(_))), "{step:?}: {result:?}");
            }
        };
        activate_fast().await;
        suite.backend.begin_reset(resetting.id, Some(1), None).await.unwrap();
        activate_fast().await;
        assert!(began.elapsed() < PROMISED, "{:?}", began.elapsed());
        assert_eq!(suite.backend.lease(resetting.id).await.unwrap().generation, 2, "its reset is done");
        suite.assert_dead(returned.credentials.as_ref().unwrap(), &[&returned.database_name]).await;
        drop(stopped);
        suite.release(&stuck).await;
        suite.idle().await;
    });
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[test]
    fn return_ends_all_holds_of_tenant_createrole() {
        own_return(Rights::DatabasesAndRoles);
    }

    #[test]
    fn return_ends_all_holds_of_sibling_createrole() {
        siblings_return(Rights::DatabasesAndRoles);
    }

    #[test]
    fn reset_succeeds_beside_granting_siblings_createrole() {
        reset_beside_granting_siblings(Rights::DatabasesAndRoles);
    }
}
