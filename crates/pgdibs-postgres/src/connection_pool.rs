//! A connection pool that is replaced by a new one when its connections are found dead.
//!
//! A connection can die silently (an address or a route that changed, a machine that was suspended). A statement on it waits for ever,
//! and so does sqlx before it takes the connection back into its pool. So every request has a timeout, and a request that times out
//! discards the whole pool; the new pool opens connections when they are needed.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection as _, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::address::{TEST, TRUSTED};

/// A pool is not discarded before this age: opening all connections again would make a slow server slower.
const MIN_AGE: Duration = Duration::from_secs(20);

/// Requests wait for a few locks, each of which is held for milliseconds.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that [`ConnectionPool::lend`] lends at most at once, each for one statement; the other half is for longer requests.
const LENT: usize = 4;

pub struct ConnectionPool {
    current: Mutex<Current>,
    /// Connections that came back from a statement, the last used one last.
    warm: Mutex<Vec<Warm>>,
    permits: Semaphore,
    make: Box<dyn Fn() -> PgPool + Send + Sync>,
}

struct Current {
    pool: PgPool,
    number: usize,
    since: Instant,
}

struct Warm {
    connection: PoolConnection<Postgres>,
    /// The number of its pool.
    number: usize,
    since: Instant,
}

impl ConnectionPool {
    pub(crate) fn new(make: impl Fn() -> PgPool + Send + Sync + 'static) -> Self {
        let current = Current { pool: make(), number: 0, since: Instant::now() };
        Self {
            current: Mutex::new(current),
            warm: Mutex::default(),
            permits: Semaphore::new(LENT),
            make: Box::new(make),
        }
    }

    /// Lends the connection that was used last: its backend has caches and plans at hand, and the processor has that backend's memory. sqlx
    /// lends the one that was idle for the longest time, and waits for a round trip before it takes one back.
    pub(crate) async fn lend(&self) -> Result<Lent<'_>, sqlx::Error> {
        let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let (pool, number) = self.pool();
        loop {
            let warm = self.warm.lock().pop();
            let Some(mut warm) = warm else { break };
            if warm.number == number && (warm.since.elapsed() < TRUSTED || answers(&mut warm.connection).await) {
                return Ok(Lent { to: self, connection: warm.connection, number, _permit: permit });
            }
            // Without a farewell, for which a dead connection would wait.
            drop(warm.connection.detach());
        }
        Ok(Lent { to: self, connection: pool.acquire().await?, number, _permit: permit })
    }

    /// The current pool, and its number.
    pub(crate) fn pool(&self) -> (PgPool, usize) {
        let current = self.current.lock();
        (current.pool.clone(), current.number)
    }

    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.pool().0.acquire().await
    }

    /// Replaces the pool with this number, unless it is replaced already or too young. Connections in use close when they come back.
    pub(crate) fn discard(&self, number: usize) {
        let mut current = self.current.lock();
        if current.number == number && current.since.elapsed() > MIN_AGE {
            tracing::warn!("replacing connections to the server: they do not answer");
            self.warm.lock().clear();
            *current = Current { pool: (self.make)(), number: number + 1, since: Instant::now() };
        }
    }

    /// Closes every connection, after their present statements.
    pub(crate) async fn close(&self) {
        self.warm.lock().clear();
        self.pool().0.close().await;
    }
}

async fn answers(connection: &mut PgConnection) -> bool {
    matches!(tokio::time::timeout(TEST, connection.ping()).await, Ok(Ok(())))
}

/// A lent connection. Dropped, it goes back to sqlx, which rolls back and tests it first.
pub(crate) struct Lent<'a> {
    to: &'a ConnectionPool,
    pub(crate) connection: PoolConnection<Postgres>,
    number: usize,
    _permit: SemaphorePermit<'a>,
}

impl Lent<'_> {
    /// Gives the connection back after a statement that has succeeded, outside of a transaction.
    pub(crate) fn give_back(self) {
        let Self { to, connection, number, _permit } = self;
        to.warm.lock().push(Warm { connection, number, since: Instant::now() });
    }
}
