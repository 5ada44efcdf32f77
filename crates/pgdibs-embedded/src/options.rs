//! The configuration of the embedded server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The default of [`EmbeddedOptions::linger`].
pub const DEFAULT_LINGER: Duration = Duration::from_secs(180);
/// The default of [`EmbeddedOptions::max_connections`].
pub const DEFAULT_MAX_CONNECTIONS: u32 = 300;

/// The configuration of the embedded server.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The data directory; `None` chooses memory when it has 1 GiB free, otherwise the cache directory.
    pub data_dir: Option<PathBuf>,
    /// The directory of `postgres` and `initdb`; `None` searches the system.
    pub bin_dir: Option<PathBuf>,
    /// Where the server listens; `None` is loopback, on the data directory's port. It takes effect when the server is started, not
    /// when it is adopted.
    pub listen: Option<SocketAddr>,
    /// How long the supervisor keeps the server after the daemon has exited without stopping it.
    pub linger: Duration,
    /// `max_connections` of the server. It takes effect when the server is started, not when it is adopted.
    pub max_connections: u32,
    /// The program to run as supervisor, with [`SupervisorArgs::command_line`](super::SupervisorArgs::command_line).
    pub supervisor_exe: PathBuf,
}
