//! The connections of one daemon to one server.

use crate::address::ServerAddress;
use crate::connection_pool::ConnectionPool;
use crate::facts::ServerFacts;

pub struct Connections {
    /// For requests: a few statements each.
    pub catalog: ConnectionPool,
    /// For DDL that callers may wait for: one statement may take seconds.
    pub ddl: ConnectionPool,
    /// For drops, for which no caller waits. On the embedded server its backends have a lower priority.
    pub background: ConnectionPool,
    pub address: ServerAddress,
    pub facts: ServerFacts,
    /// This daemon's number, unique among the daemons of the server.
    pub instance: i32,
    /// Databases of others that had sessions when this daemon connected.
    pub in_use_by_others: Vec<String>,
}

/// Connections that requests share.
pub(crate) const CATALOG_CONNECTIONS: u32 = 8;
/// Connections for clones, builds and fences: as many as the reconciler runs at once of the first, and two for the others.
pub const DDL_CONNECTIONS: u32 = 14;
/// Connections for drops: as many as the reconciler runs at once.
pub(crate) const BACKGROUND_CONNECTIONS: u32 = 8;
/// Connections that the daemon itself may hold at once: those three kinds, the reconciler's, the notification listener's, the one that finds
/// blockers, and one into a build.
pub const OWN_CONNECTIONS: u32 = CATALOG_CONNECTIONS + DDL_CONNECTIONS + BACKGROUND_CONNECTIONS + 4;

/// The prefix of `application_name` on connections that run DDL, before the instance. A dead daemon's DDL goes on, and the next leader finds
/// it by this name.
pub const DDL_APPLICATION: &str = "pgdibs-ddl/";

/// Application name of the connection that holds leadership.
pub(crate) const RECONCILER: &str = "pgdibs-reconciler";
