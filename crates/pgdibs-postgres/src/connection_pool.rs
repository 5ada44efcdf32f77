//! Lines to the server: a pool of connections that is exchanged for a new one when those of it are found dead.
//!
//! A connection can die without a word (an address or a route that changed, a machine that was suspended). Whoever waits on it waits
//! for ever, and sqlx waits as well before it takes it back into its pool. So whatever is asked has a deadline, and who runs into it
//! leaves the whole pool behind: its dead connections are nobody's any more, and new ones are opened when they are needed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, Postgres, SqlStr};

/// A pool is not left behind before it is this old.
const YOUNG: Duration = Duration::from_secs(20);

/// Longest wait for an answer to a request. Statements of ours wait for a few locks, each of them held for milliseconds.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// A pool of connections, and how to make another one.
pub struct ConnectionPool {
    current: Mutex<Current>,
    make: Box<dyn Fn() -> PgPool + Send + Sync>,
}

struct Current {
    pool: PgPool,
    number: usize,
    since: Instant,
}

impl ConnectionPool {
    /// Connections are opened when they are needed.
    pub(crate) fn new(make: impl Fn() -> PgPool + Send + Sync + 'static) -> Self {
        let current = Current { pool: make(), number: 0, since: Instant::now() };
        Self { current: Mutex::new(current), make: Box::new(make) }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool of the moment, and its number.
    pub(crate) fn pool(&self) -> (PgPool, usize) {
        let current = self.current();
        (current.pool.clone(), current.number)
    }

    /// A connection of the pool of the moment.
    ///
    /// # Errors
    /// None in time, or what Postgres says to a new one.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.pool().0.acquire().await
    }

    /// Leaves the pool with this number behind, unless somebody was faster or it is young: a server that is merely slow would be
    /// slower yet for having to open all connections again. What of it is in use is closed when it comes back.
    pub(crate) fn discard(&self, number: usize) {
        let mut current = self.current();
        if current.number == number && current.since.elapsed() > YOUNG {
            tracing::warn!("connections to the server have died without a word; new ones are opened");
            *current = Current { pool: (self.make)(), number: number + 1, since: Instant::now() };
        }
    }

    /// Closes every connection; open statements are finished first.
    pub(crate) async fn close(&self) {
        self.pool().0.close().await;
    }
}

impl std::fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// As with sqlx's own pool: each statement on any of its connections.
impl<'c> Executor<'c> for &'c ConnectionPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> futures_core::stream::BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.pool().0.fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> futures_core::future::BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.pool().0.fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> futures_core::future::BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.pool().0.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> futures_core::future::BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.pool().0.describe(sql)
    }
}
