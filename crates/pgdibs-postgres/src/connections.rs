//! The connections of one daemon to one server.

use sqlx::{Postgres, Transaction};

use crate::address::ServerAddress;
use crate::connection_pool::ConnectionPool;
use crate::facts::ServerFacts;

/// The connections of one daemon to one server.
pub struct Connections {
    /// For requests: a few statements each.
    pub catalog: ConnectionPool,
    /// For DDL: one statement may take seconds. Their `application_name` names this instance, so that a successor can end them.
    pub ddl: ConnectionPool,
    /// How to open a connection of its own kind.
    pub address: ServerAddress,
    /// What the server is.
    pub facts: ServerFacts,
    /// This daemon's number, unique among the daemons of the server.
    pub instance: i32,
    /// Databases of others that had sessions when we came.
    pub in_use_by_others: Vec<String>,
}

impl Connections {
    /// Begins a transaction on a shared connection. In a task of its own, since a caller may hang up at any moment: sqlx counts a
    /// transaction only when the answer to `begin` is there, rolls back only what it has counted, and would lend the connection
    /// to the next caller with somebody's transaction open.
    pub(crate) async fn begin(&self, statement: &'static str) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let (pool, _) = self.catalog.pool();
        let begun = tokio::spawn(async move { pool.begin_with(statement).await });
        begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

/// Connections that requests share.
pub(crate) const CATALOG_CONNECTIONS: u32 = 8;
/// Connections for clones, drops, builds and fences: as many as the reconciler runs at once of the first two, and two for the others.
pub const DDL_CONNECTIONS: u32 = 18;
/// Connections that the daemon itself may hold at once: those two kinds, the reconciler's, the listener's, the one that looks for
/// blockers, and one into a build.
pub const OWN_CONNECTIONS: u32 = CATALOG_CONNECTIONS + DDL_CONNECTIONS + 4;

/// The prefix of `application_name` on connections that run DDL. A dead daemon's DDL goes on; its successor finds it by this.
pub const DDL_APPLICATION: &str = "pgdibs-ddl/";

/// Application name of the connection that holds leadership.
pub(crate) const RECONCILER: &str = "pgdibs-reconciler";
