//! The settings as the daemon uses them: each has a value of its type that keeps its rule.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::address::{Advertise, HostPort};
use super::pools::PoolConfig;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Every setting, checked. Issue 2, section 5.4.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: HostPort,
    /// What callers must present; absent: nothing.
    pub token: Option<SecretString>,
    /// Listening beyond loopback without a token was asked for.
    pub insecure_no_token: bool,
    /// Names in small letters, besides loopback ones, that a `Host` header may carry.
    pub allowed_hosts: Vec<String>,
    /// The server to manage; absent: the embedded one.
    pub server_url: Option<SecretString>,
    /// Addresses handed out in place of the daemon's own.
    pub advertise: Advertise,
    /// Where the embedded server keeps its data; absolute.
    pub data_dir: Option<PathBuf>,
    /// Where Postgres' programs are; absolute.
    pub pg_bin_dir: Option<PathBuf>,
    /// Where the embedded server listens; absent: loopback, a port of the data directory's own.
    pub postgres_listen: Option<SocketAddr>,
    /// The longest a lease in use lives after its last renewal.
    pub max_ttl: Duration,
    /// No clone is made below this much free disk, in MiB.
    pub disk_floor_mb: u64,
    /// How long the embedded server waits for a next daemon.
    pub linger: Duration,
    /// How long a build may take when its source says nothing else.
    pub build_timeout: Duration,
    /// After this much quiet a pool's raised target falls back to `warm`.
    pub idle: Duration,
    /// A `tracing` filter.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Stop the embedded server with the daemon in any case.
    pub stop_server: bool,
    /// The pools of the file, by name.
    pub pools: Vec<PoolConfig>,
}
