//! The connection on which blockers are looked for: opened early and kept, in a transaction that holds every lock that a look takes.
//!
//! A tenant that fills the lock table leaves no entry for anybody, and every look at sessions reads `pg_database` and `pg_authid`. Their
//! locks are entries of the main lock table, since the fast path serves a session's own database alone; and so are those that
//! `pg_terminate_backend` takes to see whose session it ends. What a transaction holds already it may use again without an entry.
//! So the transaction stays open: it holds AccessShareLock on these catalogs, and neither a snapshot nor a transaction number while it
//! is idle. Only VACUUM FULL, REINDEX and CLUSTER of them wait for it, and for them it is given up. It reads no table of the catalog,
//! which a newer daemon may alter.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use tokio::time::{Instant, timeout};

use crate::address::{CATALOG, ServerAddress};
use crate::ddl;

/// Between two lines in the log about the same session.
const QUIET: Duration = Duration::from_secs(10);

/// To connect to one of the databases.
const CONNECTING: Duration = Duration::from_millis(1500);

/// A session of a tenant.
pub(crate) struct Session {
    pid: i32,
    /// Process numbers are given again, so the time of its beginning belongs to it.
    began: Option<String>,
    pub(crate) login: String,
    pub(crate) database: Option<String>,
    /// The number of its database.
    pub(crate) oid: i64,
}

impl Session {
    /// From a row with the columns of [`session_columns`].
    pub(crate) fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            pid: row.try_get("pid")?,
            began: row.try_get("began")?,
            login: row.try_get("login")?,
            database: row.try_get("database")?,
            oid: row.try_get("oid")?,
        })
    }
}

/// What [`Session::of`] reads of `pg_stat_activity a`.
macro_rules! session_columns {
    () => {
        "a.pid, a.backend_start::text as began, coalesce(a.usename::text, 'a role that was dropped') as login, \
         a.datname::text as database, coalesce(a.datid, 0)::int8 as oid"
    };
}

/// Whether `pg_stat_activity a` is a session of a tenant that the daemon may end. One refusal would be an error of the whole statement, and end the transaction.
macro_rules! is_tenant {
    () => {
        "(a.usename ~ '^pgdibs_l_[0-9]+$' or (a.usename is null and a.usesysid is not null)) \
         and exists (select from pg_roles me left join pg_roles r on r.oid = a.usesysid \
             where me.rolname = current_user and (me.rolsuper or (not coalesce(r.rolsuper, false) \
               and (coalesce(pg_has_role(r.oid, 'usage'), false) or pg_has_role('pg_signal_backend', 'usage')))))"
    };
}
pub(crate) use {is_tenant, session_columns};

/// The connection, if there is one, and what was ended on it.
#[derive(Default)]
pub(crate) struct Watch {
    connection: Option<PgConnection>,
    /// Whether a look was completed on it, and it holds the locks of all later ones. A look may be cut short at any moment, with the step
    /// that it ran beside.
    has_looked: bool,
    ended: HashMap<(i32, Option<String>), Instant>,
}

impl Watch {
    /// Connects unless it is connected: to the catalog, or where a blocker keeps new sessions out of it, to another database.
    pub(crate) async fn connect(&mut self, address: &ServerAddress) -> Result<(), sqlx::Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        let given = address.options.get_database().unwrap_or("postgres");
        let mut refused = sqlx::Error::PoolTimedOut;
        for database in [CATALOG, given, "postgres", "template1"] {
            match timeout(CONNECTING, connect_to(address, database)).await {
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

    /// Gives the connection up.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.has_looked = false;
    }

    pub(crate) fn has_looked(&mut self) {
        self.has_looked = true;
    }

    /// The connection, after [`connect`](Self::connect), so that it sees sessions and roles as they are now. What a transaction has read
    /// of sessions stays until it is cleared. It learns of new roles and members when it takes a lock that it does not hold: one of its
    /// own database, which as a rule is no entry of the main lock table; and else it goes on without.
    pub(crate) async fn fresh(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        // One message to the server, so that no savepoint is left when a look is cut short.
        let learned = sqlx::raw_sql(
            "savepoint learning; lock table pg_catalog.pg_am in access share mode; rollback to savepoint learning; \
             release savepoint learning; select pg_stat_clear_snapshot()",
        );
        if learned.execute(&mut *connection).await.is_err() {
            sqlx::raw_sql(
                "rollback to savepoint learning; release savepoint learning; select pg_stat_clear_snapshot()",
            )
            .execute(&mut *connection)
            .await?;
        }
        Ok(connection)
    }

    /// Whether any session waits for a lock, or more locks are held than the server's settings promise; or whether it is the first look.
    pub(crate) async fn look_is_due(&mut self, lock_entries: u64) -> Result<bool, sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        if !self.has_looked {
            return Ok(true);
        }
        sqlx::query_scalar(
            "select count(*) filter (where not granted) > 0 or count(*) filter (where not fastpath) >= $1 from pg_locks",
        )
        .bind(i64::try_from(lock_entries).unwrap_or(i64::MAX))
        .fetch_one(connection)
        .await
    }

    /// Whether a session waits for the locks of this connection itself.
    pub(crate) async fn is_in_the_way(&mut self) -> Result<bool, sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        sqlx::query_scalar(
            "select exists (select from pg_locks where not granted and locktype = 'relation' and pg_backend_pid() = any (pg_blocking_pids(pid)))",
        )
        .fetch_one(connection)
        .await
    }

    /// Ends a session of a tenant. In an expression that Postgres cannot interrupt it stays until that is done: then every look ends it
    /// again, and not every one is told.
    pub(crate) async fn end(&mut self, session: &Session, why: &str) -> Result<(), sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        let signalled: bool =
            sqlx::query_scalar("select pg_terminate_backend($1)").bind(session.pid).fetch_one(connection).await?;
        if !signalled {
            return Ok(());
        }
        let Session { pid, began, login, database, .. } = session;
        let key = (*pid, began.clone());
        let before = self.ended.get(&key).copied();
        if before.is_some_and(|at| at.elapsed() < QUIET) {
            return Ok(());
        }
        if before.is_none() {
            tracing::warn!(pid, login, database, "ended tenant session: {why}");
        } else {
            tracing::warn!(pid, login, database, "tenant session still there after pg_terminate_backend: {why}");
        }
        self.ended.retain(|_, at| at.elapsed() < 6 * QUIET);
        self.ended.insert(key, Instant::now());
        Ok(())
    }
}

async fn connect_to(address: &ServerAddress, database: &str) -> Result<PgConnection, sqlx::Error> {
    let mut connection = address.connect(database, "pgdibs-watch").await?;
    ddl::begin_watch().run(&mut connection).await?;
    // Planned, a query locks all indexes of what it reads: also those by which the server itself looks up a role.
    sqlx::raw_sql("select count(*) from pg_auth_members").execute(&mut connection).await?;
    Ok(connection)
}
