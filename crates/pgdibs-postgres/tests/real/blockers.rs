//! Blockers: a full lock table, a lock on the catalog's database, a queue behind a lock; and which sessions the daemon ends.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::{End, Lease};
use pgdibs_core::plan::plan;
use pgdibs_postgres::connect::{ConnectError, ServerAddress, open};
use pgdibs_postgres::rights::Rights;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::support::external::session;
use crate::support::setting::{Setting, nothing_under_way, on_each_server, on_each_server_with};
use pgdibs_testing::process::signal;
use pgdibs_testing::wait::{DEADLINE, until_async};

/// Longest time until the daemon has ended all blockers.
const PROMISED: Duration = Duration::from_secs(2);

/// Runs a test while the daemon ends blockers, as it does at all times.
async fn beside_the_watch(setting: &Setting, test: impl Future<Output = ()>) {
    let begun = async {
        // The first statement of the second check: the connection has every lock then.
        let checked = "select count(*) from pg_stat_activity where application_name = 'pgdibs-watch'
                      and state = 'idle in transaction' and query like 'select count(*) filter%'";
        setting.cluster.until_text("postgres", checked, "1").await;
        test.await;
    };
    tokio::select! {
        () = begun => {}
        () = setting.suite.backend.end_blockers() => {}
    }
}

async fn run(session: &mut PgConnection, sql: &str) {
    session
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A statement that waits for a lock, until it ends or its session does.
struct Waiting(tokio::task::JoinHandle<(PgConnection, Result<(), sqlx::Error>)>);

impl Waiting {
    async fn start(setting: &Setting, mut session: PgConnection, sql: &str) -> Self {
        let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.unwrap();
        let statement = sql.to_owned();
        let task = tokio::spawn(async move {
            let done = session.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(|_| ());
            (session, done)
        });
        let waits = format!("select count(*) > 0 from pg_locks where pid = {process} and not granted");
        setting.cluster.until_text("postgres", &waits, "true").await;
        Self(task)
    }

    async fn end(self) -> (PgConnection, Result<(), sqlx::Error>) {
        tokio::time::timeout(DEADLINE, self.0).await.expect("its lock is free").unwrap()
    }
}

/// Takes all entries of the lock table; they stay taken when the statement has failed.
async fn fill_lock_table(session: &mut PgConnection) {
    let refused = session.execute("select pg_advisory_lock(g) from generate_series(1, 1000000) g").await;
    assert_eq!(code(&refused.map(|_| ())).as_deref(), Some("53200"));
}

fn code(result: &Result<(), sqlx::Error>) -> Option<String> {
    result.as_ref().err().and_then(pgdibs_postgres::sqlstate::code)
}

async fn is_dead(session: &mut PgConnection) -> bool {
    session.execute("select 1").await.is_err()
}

/// Ends the lease, with retries while the server refuses that, and executes the plan.
async fn end_promptly(setting: &Setting, lease: &Lease) {
    until_async("the lease ends", async || {
        setting
            .suite
            .backend
            .end_lease(lease.id, End::Released, "released")
            .await
            .map(|_| ())
            .map_err(|e| e.to_string())
    })
    .await;
    let began = Instant::now();
    until_async("the steps are done", async || {
        setting.suite.backend.acquire_leadership().await.map_err(|error| error.to_string())?;
        let snapshot = setting.suite.backend.take_snapshot().await.map_err(|error| error.to_string())?;
        let results = setting.suite.backend.execute(&plan(&snapshot, &nothing_under_way())).await;
        results.into_iter().find_map(Result::err).map_or(Ok(()), |error| Err(error.to_string()))
    })
    .await;
    assert!(began.elapsed() < PROMISED, "{:?}", began.elapsed());
}

fn full_lock_table(rights: Rights) {
    on_each_server(rights, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 4, 2).await;
        beside_the_watch(setting, async {
            let (tenant, other) =
                (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
            let mut innocent = suite.enter(&other).await;
            let mut filling = suite.enter(&tenant).await;
            fill_lock_table(&mut filling).await;
            end_promptly(setting, &tenant).await;
            assert!(is_dead(&mut filling).await, "it answers after its lease");
            assert!(!is_dead(&mut innocent).await, "a tenant with few locks was ended");
            // By a live lease.
            let mut filling = suite.enter(&other).await;
            fill_lock_table(&mut filling).await;
            until_async("others are served", async || {
                let taken = suite.backend.begin_reset(other.id, None, None).await;
                taken.map(|_| ()).map_err(|error| error.to_string())
            })
            .await;
        })
        .await;
    });
}

#[test]
fn session_that_fills_lock_table_is_ended_superuser() {
    full_lock_table(Rights::Superuser);
}

#[test]
fn full_lock_table_ends_sessions_of_ended_leases_first() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 4, 2).await;
        let (over, goes_on) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let mut before = suite.enter(&over).await;
        run(&mut before, "select count(pg_advisory_lock(g)) from generate_series(1, 2900) g").await;
        let mut larger = suite.enter(&goes_on).await;
        suite.release(&over).await;
        beside_the_watch(setting, async {
            fill_lock_table(&mut larger).await;
            until_async("the session of the lease that is over is ended", async || {
                if is_dead(&mut before).await { Ok(()) } else { Err("it answers".to_owned()) }
            })
            .await;
            assert!(!is_dead(&mut larger).await, "the lease goes on, and there was room again");
        })
        .await;
    });
}

const SET_FOR_CATALOG: &str = "begin; alter role current_user in database pgdibs set work_mem to '1MB'";

/// Opens a session in the catalog within the promised time.
async fn enter_catalog(setting: &Setting) {
    let options = setting.cluster.superuser_options("pgdibs");
    let entered = tokio::time::timeout(PROMISED, PgConnection::connect_with(&options))
        .await
        .expect("the catalog lets sessions in");
    entered.unwrap().close().await.unwrap();
}

fn queue_on_catalog(hold: &str) {
    on_each_server_with(&["max_prepared_transactions=10"], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 4, 2).await;
        beside_the_watch(setting, async {
            let tenant = suite.take(suite.acquire_request()).await;
            let mut holder = suite.enter(&tenant).await;
            run(&mut holder, hold).await;
            // Until it waits, and then until the next check.
            let queued = tokio::spawn({
                let mut queueing = suite.enter(&tenant).await;
                async move { queueing.execute("drop database pgdibs").await.map(|_| ()) }
            });
            enter_catalog(setting).await;
            let refused = tokio::time::timeout(PROMISED, queued).await.expect("the lock is free").unwrap();
            assert!(matches!(code(&refused).as_deref(), Some("42501" | "55006")), "{refused:?}");
            enter_catalog(setting).await;
        })
        .await;
    });
}

#[test]
fn queue_behind_setting_of_catalog_blocks_no_session() {
    queue_on_catalog(SET_FOR_CATALOG);
}

#[test]
fn queue_behind_prepared_setting_of_catalog_blocks_no_session() {
    queue_on_catalog(&format!("{SET_FOR_CATALOG}; prepare transaction 'catalog'"));
}

#[test]
fn daemon_starts_while_catalog_is_locked() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 4, 2).await;
        let tenant = suite.take(suite.acquire_request()).await;
        let mut holder = suite.enter(&tenant).await;
        run(&mut holder, SET_FOR_CATALOG).await;
        let queued = Waiting::start(setting, suite.enter(&tenant).await, "drop database pgdibs").await;
        let began = Instant::now();
        let started = setting.another_backend().await;
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(is_dead(&mut holder).await, "it held the lock");
        started.close().await;
        queued.end().await.1.expect_err("no tenant may drop the catalog");
    });
}

#[test]
fn daemon_reports_lock_that_blocks_its_catalog() {
    on_each_server(Rights::Superuser, async |setting| {
        setting.cluster.sql("postgres", "create role stranger login password 'x'").await;
        let stranger = async || session(&setting.cluster.options("stranger", "x", "postgres")).await;
        let mut holder = stranger().await;
        run(&mut holder, SET_FOR_CATALOG).await;
        let queued = Waiting::start(setting, stranger().await, "drop database pgdibs").await;
        let address = ServerAddress::parse(&setting.cluster.url().into()).unwrap();
        let Err(ConnectError::NotUp(why)) = open(address, 1_000_000).await else { panic!("it is kept out") };
        assert!(why.contains("it let no session into database \"pgdibs\" within 10 s"), "{why}");
        assert!(!is_dead(&mut holder).await, "a foreign session keeps running");
        run(&mut holder, "rollback").await;
        queued.end().await.1.expect_err("it belongs to a tenant");
    });
}

#[test]
fn tenant_that_only_waits_ahead_keeps_its_session() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(3, 5, 2).await;
        let sibling = suite.take(suite.acquire_request()).await;
        let (tenant, innocent) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let grant = format!("grant create on database {} to current_user", sibling.database_name);
        let mut holder = suite.enter(&tenant).await;
        run(&mut holder, &format!("begin; {grant}")).await;
        // It holds the lock on the tuple, for which the daemon waits, and itself waits for the transaction.
        let waiting = Waiting::start(setting, suite.enter(&innocent).await, &grant).await;
        suite.release(&sibling).await;
        // The tenant's statement or the daemon's may be the first; the other fails with "tuple concurrently updated".
        setting.idle_with_failures().await;
        setting.catalog("update databases set retry_at = null").await;
        suite.idle().await;
        assert!(is_dead(&mut holder).await, "it held the row");
        let (mut waited, _) = waiting.end().await;
        assert!(!is_dead(&mut waited).await, "it only waited, as the daemon did");
    });
}

/// Regression: the check ended a tenant that waited as the daemon did, when the check came between the end of the transaction for which
/// both waited and the tenant's release of the lock on the tuple (found on a busy machine, and by reading).
#[test]
fn tenant_about_to_release_its_tuple_lock_keeps_its_session() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(3, 5, 2).await;
        let sibling = suite.take(suite.acquire_request()).await;
        let (tenant, innocent) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let grant = format!("grant create on database {} to current_user", sibling.database_name);
        let mut holder = suite.enter(&tenant).await;
        run(&mut holder, &format!("begin; {grant}")).await;
        let mut queueing = suite.enter(&innocent).await;
        let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut queueing).await.unwrap();
        let waiting = Waiting::start(setting, queueing, &grant).await;
        // It keeps the lock on the tuple for as long as it is stopped, as on a machine whose processors are all busy.
        signal(process, Signal::SIGSTOP);
        run(&mut holder, "rollback").await;
        suite.release(&sibling).await;
        let failures = setting.idle_with_failures().await;
        signal(process, Signal::SIGCONT);
        assert!(!failures.is_empty(), "nothing waited for the lock on the tuple");
        let (mut waited, granted) = waiting.end().await;
        assert!(!is_dead(&mut waited).await, "it only waited: {granted:?}");
    });
}

/// The watch always holds locks on shared catalogs, and VACUUM FULL of a whole database takes them exclusively.
#[test]
fn watch_releases_locks_for_vacuum_full_of_shared_catalogs() {
    on_each_server(Rights::Superuser, async |setting| {
        beside_the_watch(setting, async {
            let mut boss = session(&setting.cluster.superuser_options("postgres")).await;
            let vacuumed = tokio::time::timeout(DEADLINE, boss.execute(sqlx::raw_sql("vacuum full pg_database"))).await;
            vacuumed.expect("the watch gives way").unwrap();
        })
        .await;
    });
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[test]
    fn session_that_fills_lock_table_is_ended_createrole() {
        full_lock_table(Rights::DatabasesAndRoles);
    }
}
