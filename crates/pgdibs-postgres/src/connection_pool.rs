//! A connection pool that is replaced by a new one when its connections are found dead.
//!
//! A connection can die silently (an address or a route that changed, a machine that was suspended). A statement on it waits for ever,
//! and so does sqlx before it takes the connection back into its pool. So every request has a timeout, and a request that times out
//! discards the whole pool; the new pool opens connections when they are needed.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;

/// A pool is not discarded before this age: opening all connections again would make a slow server slower.
const MIN_AGE: Duration = Duration::from_secs(20);

/// Requests wait for a few locks, each of which is held for milliseconds.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub(crate) fn new(make: impl Fn() -> PgPool + Send + Sync + 'static) -> Self {
        let current = Current { pool: make(), number: 0, since: Instant::now() };
        Self { current: Mutex::new(current), make: Box::new(make) }
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
            *current = Current { pool: (self.make)(), number: number + 1, since: Instant::now() };
        }
    }

    /// Closes every connection, after their present statements.
    pub(crate) async fn close(&self) {
        self.pool().0.close().await;
    }
}
