//! What the daemon's configuration says about the embedded server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long a server is kept for the next daemon, unless configured otherwise.
pub const DEFAULT_LINGER: Duration = Duration::from_secs(180);
/// Connections the embedded server allows, unless configured otherwise.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 300;

/// What the daemon's configuration says about the embedded server.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The data directory; `None` chooses memory when it has room, otherwise the cache directory.
    pub data_dir: Option<PathBuf>,
    /// The directory of `postgres` and `initdb`; `None` searches the system.
    pub bin_dir: Option<PathBuf>,
    /// Where the server listens; `None` is loopback, on a port of the data directory's own. Takes effect when the server is started,
    /// not when it is adopted.
    pub listen: Option<SocketAddr>,
    /// How long the server is kept when the daemon is gone and has not stopped it.
    pub linger: Duration,
    /// `max_connections` of the server; takes effect when it is started, not when it is adopted.
    pub max_connections: u32,
    /// The program that becomes the supervisor when given [`SupervisorArgs::command_line`](super::SupervisorArgs::command_line): our own.
    pub supervisor_exe: PathBuf,
}
