//! What a crash or a failure leaves behind, and how the daemon finishes it.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::database::{Database, DatabaseState};
use pgdibs_core::lease::LeaseState;
use pgdibs_core::name::RoleName;
use pgdibs_core::plan::Step;
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;

use crate::support::setting::{Setting, on_each_server};

/// As an interrupted `drop database` leaves it: closed to all, and only another drop helps.
async fn interrupt_the_drop_of(setting: &Setting, database: &str) {
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}';
         update pg_database set datconnlimit = -2, datistemplate = false where datname = '{database}'"
    );
    setting.cluster.sql("postgres", &sql).await;
    let left = format!("select count(*) from pg_stat_activity where datname = '{database}'");
    setting.cluster.until_text("postgres", &left, "0").await;
}

async fn first_in(setting: &Setting, state: DatabaseState) -> Database {
    setting
        .suite
        .in_state(state)
        .await
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("no database is {}", state.as_str()))
}

async fn assert_dropped(setting: &Setting, dropped: &Database) {
    let snapshot = setting.suite.snapshot().await;
    assert!(snapshot.databases.iter().all(|found| found.id != dropped.id), "the row of {dropped:?}");
    assert!(!snapshot.server.contains_key(&dropped.oid.unwrap()), "the database of {dropped:?}");
}

#[test]
fn clone_of_dead_daemon_is_dropped_and_replaced() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(0, 1, 0).await;
            let template = suite.snapshot().await.templates[0].clone();
            suite.make_pool(1, 1, 0).await;
            setting.only(|step| matches!(step, Step::NewDatabases { .. })).await;
            let row = first_in(setting, DatabaseState::Creating).await;
            let owner = RoleName::database_owner();
            let sql = format!(
                "create database {} template {} owner \"{owner}\" allow_connections = false",
                row.name, template.name
            );
            setting.cluster.sql("postgres", &sql).await;
            let oid = setting
                .cluster
                .text("postgres", &format!("select oid from pg_database where datname = '{}'", row.name))
                .await;
            suite.idle().await;
            let ready = first_in(setting, DatabaseState::Ready).await;
            assert_ne!(
                ready.oid.map(|oid| oid.to_string()),
                Some(oid),
                "a copy without login and grants is not handed out"
            );
            assert_eq!(suite.names_on_the_server().await.len(), 2, "the template and the slot");
            let lease = suite.take(suite.acquire_request()).await;
            let session = suite.enter_clean_and_write(&lease).await;
            suite.server.disconnect(session).await;
            suite.finish(&[]).await;
        });
    }
}

#[test]
fn interrupted_drop_is_finished() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(2, 3, 1).await;
            // Pgdibs's own, between the fence and the end of the drop.
            let lease = suite.take(suite.acquire_request()).await;
            suite.release(&lease).await;
            setting.only(|step| matches!(step, Step::Return { .. })).await;
            let retiring = first_in(setting, DatabaseState::Retiring).await;
            interrupt_the_drop_of(setting, retiring.name.as_str()).await;
            // A foreign one.
            let spare = suite.in_state(DatabaseState::Spare).await;
            let ready = first_in(setting, DatabaseState::Ready).await;
            interrupt_the_drop_of(setting, ready.name.as_str()).await;
            suite.idle().await;
            assert_dropped(setting, &retiring).await;
            assert_dropped(setting, &ready).await;
            if let Some(spare) = suite.in_state(DatabaseState::Spare).await.first() {
                interrupt_the_drop_of(setting, spare.name.as_str()).await;
                suite.idle().await;
                assert_dropped(setting, spare).await;
            }
            drop(spare);
            assert_eq!(suite.ready_names().await, [suite.slot(0), suite.slot(1)]);
            let lease = suite.take(suite.acquire_request()).await;
            let session = suite.enter_clean_and_write(&lease).await;
            suite.server.disconnect(session).await;
            suite.finish(&[]).await;
        });
    }
}

#[test]
fn lease_of_invalid_database_is_revoked() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let lease = suite.take(suite.acquire_request()).await;
        suite.backend.keep(lease.id, 3600, "inspection").await.unwrap();
        interrupt_the_drop_of(setting, &lease.database_name).await;
        suite.idle().await;
        assert_eq!(suite.backend.lease(lease.id).await.unwrap().state, LeaseState::Revoked);
        assert_eq!(suite.in_state(DatabaseState::Kept).await, [], "it cannot be kept");
        let next = suite.take(suite.acquire_request()).await;
        assert_eq!(next.database_name, lease.database_name, "the slot goes on");
        suite.finish(&[]).await;
    });
}

#[test]
fn invalid_kept_database_is_dropped() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let lease = suite.take(suite.acquire_request()).await;
        let kept = suite.backend.keep(lease.id, 3600, "inspection").await.unwrap();
        suite.release(&lease).await;
        suite.idle().await;
        interrupt_the_drop_of(setting, kept.name.as_str()).await;
        suite.idle().await;
        assert_eq!(suite.in_state(DatabaseState::Kept).await, []);
        suite.finish(&[]).await;
    });
}

#[test]
fn invalid_template_retires() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            let fingerprint = suite.ready_pool(1, 1, 0).await;
            let template = suite.snapshot().await.templates[0].clone();
            interrupt_the_drop_of(setting, template.name.as_str()).await;
            suite.idle().await;
            assert_eq!(suite.names_on_the_server().await, Vec::<String>::new());
            let again = suite.build(&fingerprint).await;
            assert_ne!(again.id, template.id);
            suite.finish(&[]).await;
        });
    }
}

/// Regression: a clone whose last transaction failed was dropped and created again without a pause (found by tests of half-made
/// databases).
#[test]
fn clone_is_blocked_after_three_failed_attempts() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(0, 1, 0).await;
        setting.catalog("update templates set settings = array['no_such_setting=1']").await;
        suite.make_pool(1, 1, 0).await;
        for attempt in 1..=3 {
            let failures = setting.idle_with_failures().await;
            assert_eq!(failures.len(), 1, "one attempt, then a pause: {failures:?}");
            assert_eq!(suite.names_on_the_server().await.len(), 1, "the failed copy is not left lying about");
            let rows = suite.snapshot().await.databases;
            assert_eq!(rows.len(), 1, "{rows:?}");
            let row = &rows[0];
            assert_eq!((row.attempts, row.due), (attempt, false));
            assert!(row.last_error.as_ref().is_some_and(|why| why.contains("no_such_setting")), "{row:?}");
            let state = if attempt < 3 { DatabaseState::Creating } else { DatabaseState::Blocked };
            assert_eq!(row.state, state);
            setting.catalog("update databases set retry_at = now()").await;
        }
        let blocked = first_in(setting, DatabaseState::Blocked).await;
        assert!(blocked.reason.as_ref().is_some_and(|why| why.contains("failed three times")), "{blocked:?}");
        setting.catalog("update templates set settings = '{}'").await;
        suite.idle().await;
        assert_eq!(suite.ready_names().await, [suite.slot(0)], "and is tried again, rarely");
        let ready = first_in(setting, DatabaseState::Ready).await;
        assert_eq!((ready.id, ready.attempts, ready.last_error), (blocked.id, 0, None));
        suite.finish(&[]).await;
    });
}

#[test]
fn foreign_database_under_slots_name_stays_open() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 1).await;
        let lease = suite.take(suite.acquire_request()).await;
        suite.backend.begin_reset(lease.id, None, None).await.unwrap();
        let swap = |step: &Step| matches!(step, Step::Return { .. } | Step::Reset { .. });
        let planned = |steps: Vec<Step>| steps.into_iter().filter(swap).collect::<Vec<Step>>();
        let nothing = crate::support::setting::nothing_under_way();
        let mut stale = planned(pgdibs_core::plan::plan(&suite.snapshot().await, &nothing));
        for round in ["reset", "return"] {
            assert_eq!(stale.len(), 1, "{round}: {stale:?}");
            let (name, theirs) = (suite.slot(0), format!("{}_theirs", suite.pool));
            suite.server.rename_externally(&name, &theirs).await;
            suite.server.create_externally(&name).await;
            let results = suite.backend.execute(&stale).await;
            assert!(matches!(results[..], [Err(pgdibs_core::error::StepError::Stale(_))]), "{round}: {results:?}");
            let sql = format!(
                "select datallowconn::text || ' ' || pg_get_userbyid(datdba) from pg_database where datname = '{name}'"
            );
            let seen = setting.cluster.text("postgres", &sql).await;
            assert_eq!(seen, format!("true {}", pgdibs_testing::seed::SUPERUSER), "{round}: it is as it was");
            suite.server.drop_externally(&name).await;
            suite.server.rename_externally(&theirs, &name).await;
            suite.backend.end_lease(lease.id, pgdibs_core::lease::End::Released, "released").await.unwrap();
            stale = planned(pgdibs_core::plan::plan(&suite.snapshot().await, &nothing));
        }
        suite.idle().await;
        suite.finish(&[]).await;
    });
}

#[test]
fn garbage_collection_drops_login_without_row() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 1).await;
        let logins = suite.server.logins().await;
        assert_eq!(logins.len(), 2);
        setting
            .cluster
            .sql(
                "postgres",
                "create role pgdibs_l_999999 login; create role pgdibs_l_ login; create role pgdibs_l_1x login",
            )
            .await;
        suite.idle().await;
        assert_eq!(suite.server.logins().await, logins);
        let others = "select string_agg(rolname, ' ' order by rolname) from pg_roles where rolname in ('pgdibs_l_', 'pgdibs_l_1x')";
        assert_eq!(setting.cluster.text("postgres", others).await, "pgdibs_l_ pgdibs_l_1x", "names that we never give");
    });
}

#[test]
fn swap_by_another_daemon_makes_step_stale() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 1).await;
        let lease = suite.take(suite.acquire_request()).await;
        suite.idle().await;
        suite.release(&lease).await;
        let steps = pgdibs_core::plan::plan(&suite.snapshot().await, &crate::support::setting::nothing_under_way());
        let stale: Vec<Step> = steps.into_iter().filter(|step| matches!(step, Step::Return { .. })).collect();
        let [Step::Return { used, spare: Some(spare) }] = stale[..] else { panic!("{stale:?}") };
        let fresh = suite.in_state(DatabaseState::Spare).await.remove(0).oid.unwrap();

        // Another reconciler's swap, between its renames and its commit, while this one begins.
        let mut other = crate::support::external::session(&setting.cluster.superuser_options("pgdibs")).await;
        let (slot, old) = (suite.slot(0), format!("{}_old_{}", suite.pool, used.0));
        let swap = format!(
            "begin; select from databases where id in ({}, {}) for update;
             alter database {slot} rename to {old}; alter database {}_spare_{} rename to {slot};
             alter database {slot} allow_connections true;
             update databases set name = '{old}', slot = null where id = {};
             update databases set name = '{slot}', slot = 0, state = 'ready' where id = {}",
            used.0, spare.0, suite.pool, spare.0, used.0, spare.0
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(swap)).execute(&mut other).await.unwrap();
        let waiting = "select count(*) from pg_stat_activity where application_name = 'pgdibs-reconciler' and wait_event_type = 'Lock'";
        let (results, ()) = tokio::join!(suite.backend.execute(&stale), async {
            setting.cluster.until_text("postgres", waiting, "1").await;
            sqlx::raw_sql("commit").execute(&mut other).await.unwrap();
        });
        assert!(matches!(results[..], [Err(pgdibs_core::error::StepError::Stale(_))]), "{results:?}");
        let sql = format!("select oid from pg_database where datname = '{slot}'");
        assert_eq!(setting.cluster.text("postgres", &sql).await, fresh.to_string(), "the fresh one has the name");
        suite.idle().await;
        let next = suite.take(suite.acquire_request()).await;
        let session = suite.enter_clean_and_write(&next).await;
        suite.server.disconnect(session).await;
        suite.finish(&[]).await;
    });
}
