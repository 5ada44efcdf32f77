//! The embedded server: a Postgres of our own that is found, made, started, supervised, adopted and stopped.
//!
//! A daemon calls [`start`]; beside it a supervisor (our own binary, see [`supervise`]) is Postgres's parent and survives
//! the daemon. The daemon holds a line to it as long as it lives. When the line closes without a word, or with
//! [`Leave::Keep`], the supervisor keeps the server for a while; the next daemon on the data directory adopts it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

mod os_user;
mod boot;
mod cluster;
mod control;
mod error;
mod find;
mod layout;
mod lock;
mod look;
mod place;
mod postmaster;
mod progress;
mod server;
mod settings;
mod start;
mod supervisor;

pub use error::EmbeddedError;
pub use find::{Binaries, SearchRoots, find};
pub use look::superuser_url;
pub use progress::Progress;
pub use server::{Embedded, Leave};
pub use start::{data_dir, start};
pub use supervisor::{SupervisorArgs, supervise};

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
    /// The program that becomes the supervisor when given [`SupervisorArgs::command_line`]: our own.
    pub supervisor_exe: PathBuf,
}
