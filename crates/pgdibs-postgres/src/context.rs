//! The catalog and the server as one daemon sees them: its connections, and what it remembers between statements.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use pgdibs_core::error::Error;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use crate::connection_pool::ANSWER;
use crate::connections::{Connections, OWN_CONNECTIONS};
use crate::facts::ServerFacts;
use crate::handed_over::HandedOver;
use crate::sqlstate;
use crate::watch::Watch;

/// What the daemon's configuration says about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// No clone below this many free bytes on the server's disk.
    pub disk_floor_bytes: u64,
}

/// The catalog and the server, as one daemon sees them.
pub struct PgBackend {
    pub(crate) connections: Connections,
    pub(crate) bounds: Bounds,
    /// The reconciler's own connection, when this daemon reconciles.
    pub(crate) leadership: tokio::sync::Mutex<Option<Held>>,
    /// The session on which leadership was held before, if it may not have ended.
    pub(crate) lost: tokio::sync::Mutex<Option<Session>>,
    /// When the daemons of the server were last counted, and how many they were.
    pub(crate) daemons: tokio::sync::Mutex<Option<(Instant, i64)>>,
    /// The connection on which blockers are looked for.
    pub(crate) watch: tokio::sync::Mutex<Watch>,
    /// Databases that belong to the owner role of a pool.
    pub(crate) handed_over: Mutex<HandedOver>,
    /// Directories that may be orphans; see [`PgBackend::orphans`].
    pub(crate) suspects: tokio::sync::Mutex<Suspects>,
}

impl PgBackend {
    /// A backend over open connections.
    #[must_use]
    pub fn new(connections: Connections, bounds: Bounds) -> Self {
        Self {
            connections,
            bounds,
            leadership: tokio::sync::Mutex::new(None),
            lost: tokio::sync::Mutex::new(None),
            daemons: tokio::sync::Mutex::new(None),
            watch: tokio::sync::Mutex::default(),
            handed_over: Mutex::default(),
            suspects: tokio::sync::Mutex::default(),
        }
    }

    /// What the server is and what we may do there.
    #[must_use]
    pub fn facts(&self) -> &ServerFacts {
        &self.connections.facts
    }

    /// Databases of others that had sessions when this daemon came to the server.
    #[must_use]
    pub fn in_use_by_others(&self) -> &[String] {
        &self.connections.in_use_by_others
    }

    /// This daemon's number among the daemons of the server.
    #[must_use]
    pub fn instance(&self) -> i32 {
        self.connections.instance
    }

    /// Most slots that `max_connections` leaves room for, at one session each beside the daemon's own.
    #[must_use]
    pub fn slots_by_connections(&self) -> u32 {
        self.connections.facts.max_connections.saturating_sub(OWN_CONNECTIONS).max(1)
    }

    /// What came of a request, or that nothing came in time. Then it may have been done or not; whoever asks again looks at the
    /// catalog, which knows. The connections are taken for dead and left behind.
    pub(crate) async fn within<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (_, number) = self.connections.catalog.pool();
        let Ok(answer) = tokio::time::timeout(ANSWER, asked).await else {
            self.connections.catalog.discard(number);
            return Err(no_answer(ANSWER));
        };
        answer
    }

    /// Closes every connection; open statements are finished first.
    pub async fn close(&self) {
        self.leadership.lock().await.take();
        self.watch.lock().await.disconnect();
        self.connections.ddl.close().await;
        self.connections.catalog.close().await;
    }
}

/// The server kept silent for too long.
pub(crate) fn no_answer(after: Duration) -> Error {
    Error::ServerUnavailable(format!("it gave no answer within {} s", after.as_secs()))
}

/// Turns an answer of Postgres into one for the caller.
pub(crate) fn answer<T>(result: Result<T, sqlx::Error>) -> Result<T, Error> {
    result.map_err(|error| sqlstate::request_error(&error))
}

/// Leadership, held by this session.
pub(crate) struct Held {
    /// The lock is this session's, so losing it is losing leadership.
    pub(crate) connection: PgConnection,
    /// When a statement last succeeded on it, as far as we remember.
    pub(crate) used: Instant,
    pub(crate) session: Session,
}

impl Held {
    /// The server's process behind it.
    pub(crate) fn process(&self) -> i32 {
        self.session.process
    }
}

/// A session as the server knows it. Process numbers are given again, and so the time of its beginning belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) process: i32,
    pub(crate) began: String,
}

/// Directories that belong to no database that can be seen, each with a transaction number that was given after it was first
/// seen. One that is being cloned right now looks the same, until the transactions that were under way then have ended.
pub(crate) type Suspects = BTreeMap<u32, i64>;
