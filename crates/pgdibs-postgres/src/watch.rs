//! The connection that finds blockers: opened early and kept, in a transaction that holds every lock that its statements take.
//!
//! A tenant that fills the lock table leaves no entry for other sessions, and every query of sessions reads `pg_database` and `pg_authid`.
//! Their locks are entries of the main lock table, since the fast path serves a session's own database alone; and so are the locks that
//! `pg_terminate_backend` takes to find out whose session it ends. A transaction can use a lock that it holds again without an entry. So
//! the transaction stays open: it holds AccessShareLock on these catalogs, and neither a snapshot nor a transaction number while it is
//! idle. Only VACUUM FULL, REINDEX and CLUSTER of them wait for it, and for them the daemon closes it. It reads no table of the catalog,
//! which a newer daemon may alter.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::{Instant, timeout};

use crate::address::{CATALOG, ServerAddress};
use crate::ddl;

/// Between two log lines about the same session.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// To connect to one of the databases.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// A session of a tenant; see `sql/sessions.sql`.
#[derive(sqlx::FromRow)]
pub(crate) struct Session {
    pid: i32,
    began: Option<String>,
    pub(crate) login: String,
    pub(crate) database: Option<String>,
    pub(crate) oid: i64,
}

#[derive(Default)]
pub(crate) struct Watch {
    /// The catalog may not exist yet. PgBouncer lets no session into a database for 15 s after one was refused.
    before_catalog: bool,
    connection: Option<PgConnection>,
    /// Whether a check was completed, so that the connection holds the locks of all later ones. A check ends early with the step that it
    /// runs beside.
    has_locks: bool,
    ended: HashMap<(i32, Option<String>), Instant>,
}

impl Watch {
    /// For the time in which the catalog is made.
    pub(crate) fn before_catalog() -> Self {
        Self { before_catalog: true, ..Self::default() }
    }

    /// Connects unless it is connected: to the catalog, or, while a blocker keeps new sessions out of it, to another database.
    pub(crate) async fn connect(&mut self, address: &ServerAddress) -> Result<(), sqlx::Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        let given = address.options.get_database().unwrap_or("postgres");
        let mut refused = sqlx::Error::PoolTimedOut;
        // A session stays in it, so rather in the catalog than in a database of others.
        let [first, second] = if self.before_catalog { [given, CATALOG] } else { [CATALOG, given] };
        for database in [first, second, "postgres", "template1"] {
            match timeout(CONNECT_TIMEOUT, connect_to(address, database)).await {
                Ok(Ok(connection)) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Ok(Err(error)) => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
    }

    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.has_locks = false;
    }

    /// A check is complete.
    pub(crate) fn keep_locks(&mut self) {
        self.has_locks = true;
    }

    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// The connection, with the present sessions and roles. A transaction keeps the sessions that it has read until it clears them. It sees
    /// new roles and members after it takes a lock that it does not hold: one in its own database, which is rarely an entry of the main lock
    /// table. If it gets none, it goes on without.
    pub(crate) async fn fresh(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = self.connection()?;
        // In one message to the server, so that no savepoint stays when the check ends early.
        let refreshed = sqlx::raw_sql(
            "savepoint learning; lock table pg_catalog.pg_am in access share mode; rollback to savepoint learning; \
             release savepoint learning; select pg_stat_clear_snapshot()",
        );
        if refreshed.execute(&mut *connection).await.is_err() {
            sqlx::raw_sql(
                "rollback to savepoint learning; release savepoint learning; select pg_stat_clear_snapshot()",
            )
            .execute(&mut *connection)
            .await?;
        }
        Ok(connection)
    }

    /// Whether a session waits for a lock, or the sessions hold more locks than the server's settings promise; or this is the first check.
    pub(crate) async fn check_is_due(&mut self, lock_entries: u64) -> Result<bool, sqlx::Error> {
        if !self.has_locks {
            return Ok(true);
        }
        sqlx::query_scalar(
            "select count(*) filter (where not granted) > 0 or count(*) filter (where not fastpath) >= $1 from pg_locks",
        )
        .bind(i64::try_from(lock_entries).unwrap_or(i64::MAX))
        .fetch_one(self.connection()?)
        .await
    }

    /// Whether a session waits for the locks of this connection itself.
    pub(crate) async fn is_in_the_way(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "select exists (select from pg_locks where not granted and locktype = 'relation' and pg_backend_pid() = any (pg_blocking_pids(pid)))",
        )
        .fetch_one(self.connection()?)
        .await
    }

    /// Ends a session of a tenant. Postgres cannot interrupt some expressions: then the session stays until its expression is done, every
    /// check ends it again, and the log has a line now and then.
    pub(crate) async fn end(&mut self, session: &Session, why: &str) -> Result<(), sqlx::Error> {
        let ending = sqlx::query_scalar("select pg_terminate_backend($1)").bind(session.pid);
        if !ending.fetch_one(self.connection()?).await? {
            return Ok(());
        }
        let Session { pid, began, login, database, .. } = session;
        let key = (*pid, began.clone());
        match self.ended.get(&key).map(Instant::elapsed) {
            Some(elapsed) if elapsed < LOG_INTERVAL => return Ok(()),
            Some(_) => {
                tracing::warn!(pid, login, database, "tenant session still there after pg_terminate_backend: {why}");
            }
            None => tracing::warn!(pid, login, database, "ended tenant session: {why}"),
        }
        self.ended.retain(|_, at| at.elapsed() < 6 * LOG_INTERVAL);
        self.ended.insert(key, Instant::now());
        Ok(())
    }
}

async fn connect_to(address: &ServerAddress, database: &str) -> Result<PgConnection, sqlx::Error> {
    let mut connection = address.connect(database, "pgdibs-watch").await?;
    ddl::begin_watch().run(&mut connection).await?;
    // The planner locks all indexes of the tables that a query reads: also those by which the server itself looks up a role.
    sqlx::raw_sql("select count(*) from pg_auth_members").execute(&mut connection).await?;
    Ok(connection)
}
