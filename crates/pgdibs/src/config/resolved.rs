//! The settings as the daemon uses them: each has a value of its type that keeps its rule.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::address::{Advertise, HostPort};
use super::pools::PoolConfig;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Every setting, checked. Issue 2, section 5.4.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where to listen; port 0 takes a free one.
    pub(crate) listen: HostPort,
    /// What callers must present; absent: nothing.
    pub(crate) token: Option<SecretString>,
    /// Listening beyond loopback without a token was asked for.
    pub(crate) insecure_no_token: bool,
    /// Names in small letters, besides loopback ones, that a `Host` header may carry.
    pub(crate) allowed_hosts: Vec<String>,
    /// The server to manage; absent: the embedded one.
    pub(crate) server_url: Option<SecretString>,
    /// Addresses handed out in place of the daemon's own.
    pub(crate) advertise: Advertise,
    /// Where the embedded server keeps its data; absolute.
    pub(crate) data_dir: Option<PathBuf>,
    /// Where Postgres' programs are; absolute.
    pub(crate) pg_bin_dir: Option<PathBuf>,
    /// Where the embedded server listens; absent: loopback, a port of the data directory's own.
    pub(crate) postgres_listen: Option<SocketAddr>,
    /// The longest a lease in use lives after its last renewal.
    pub(crate) max_ttl: Duration,
    /// No clone is made below this much free disk, in MiB.
    pub(crate) disk_floor_mb: u64,
    /// How long the embedded server waits for a next daemon.
    pub(crate) linger: Duration,
    /// How long a build may take when its source says nothing else.
    pub(crate) build_timeout: Duration,
    /// After this much quiet a pool's raised target falls back to `warm`.
    pub(crate) idle: Duration,
    /// A `tracing` filter.
    pub(crate) log: String,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// Stop the embedded server with the daemon in any case.
    pub(crate) stop_server: bool,
    /// The pools of the file, by name.
    pub(crate) pools: Vec<PoolConfig>,
}
