//! The settings of the daemon: name, type, default, rule and help of each.

use std::net::SocketAddr;
use std::path::PathBuf;

use pgdibs_core::pool::LoginRights;
use secrecy::SecretString;
use serde::Deserialize;

use super::address::{Advertise, HostPort};
use super::pools::PoolConfig;
use super::table::table;
use super::types::{BoundedInteger, SettingType, parsed, path, string_list};

const DAY: u32 = 86_400;

table! {
    /// Every setting, in the order in which `pgdibs config` lists them. A flag is `--` and the name with hyphens, a variable `PGDIBS_`
    /// and the name in capitals.
    #[derive(Debug, Clone)]
    Config {
        /// Where to listen; port 0 takes a free one
        ///
        /// Any other address than loopback needs a token (PGDIBS_TOKEN): without one, every machine that reaches the port can lease databases.
        listen: HostPort = "127.0.0.1:7432", "HOST:PORT", Daemon;
        /// The token that callers present. Other users of this machine can read flags: prefer PGDIBS_TOKEN or --token-file
        token: Option<SecretString> = "(none: callers need no token)", "TOKEN", Global;
        /// A file that holds the token, such as a mounted secret
        #[serde(default, deserialize_with = "path")]
        token_file: Option<PathBuf> = "(none)", "PATH", Global;
        /// Listen beyond loopback without a token: only where every machine that reaches the port is trusted
        insecure_no_token: bool = "false", "BOOL", Daemon;
        /// Names besides localhost by which callers reach the daemon, such as its service name in compose: pgdibs,pgdibs.ci.internal
        #[serde(default, deserialize_with = "string_list")]
        allowed_hosts: Vec<String> = "(none)", "NAMES", Daemon;
        /// The Postgres server to manage, 14 to 18. Prefer PGDIBS_SERVER_URL: other users of this machine can read flags
        server_url: Option<SecretString> = "(the embedded server)", "URL", Daemon;
        /// A file that holds the server's URL
        #[serde(default, deserialize_with = "path")]
        server_url_file: Option<PathBuf> = "(none)", "PATH", Daemon;
        /// The server's address as callers see it, and named ones for callers in other networks: localhost:55432,network=postgres:5432
        ///
        /// A caller picks a named one with "via". Without this flag callers get the address the daemon itself uses.
        #[serde(default)]
        advertise: Advertise = "(none)", "ADDRESSES", Daemon;
        /// Where the embedded server keeps its data
        #[serde(default, deserialize_with = "path")]
        data_dir: Option<PathBuf> = "(memory when it has room, otherwise the cache directory)", "PATH", Daemon;
        /// Where initdb, postgres, psql and pg_dump are
        #[serde(default, deserialize_with = "path")]
        pg_bin_dir: Option<PathBuf> = "(the wheel's extra `postgres`, pg_config, /usr/lib/postgresql/*/bin, Homebrew, PATH)", "PATH", Daemon;
        /// Where the embedded server listens
        ///
        /// An IP address and a port, as in 0.0.0.0:5432 for a container whose port is published. The superuser gets in from loopback only.
        #[serde(default, deserialize_with = "parsed")]
        postgres_listen: Option<SocketAddr> = "(loopback, a port of the data directory's own)", "ADDRESS:PORT", Daemon;
        /// The longest a lease lives without a renewal while it is in use
        max_ttl_seconds: BoundedInteger<1, DAY> = "3600", "SECONDS", Daemon;
        /// No database is cloned when the server's disk has less free than this
        disk_floor_mb: BoundedInteger<0, 10_000_000> = "512", "MB", Daemon;
        /// How long the embedded server waits for a next daemon before it stops itself
        linger_seconds: BoundedInteger<0, DAY> = "180", "SECONDS", Daemon;
        /// How long a template's build may take
        build_timeout_seconds: BoundedInteger<1, DAY> = "600", "SECONDS", Daemon;
        /// A pool that grew shrinks to its `warm`, and a template that is not the current one has no ready databases any more, after this
        /// long without a lease
        idle_seconds: BoundedInteger<1, DAY> = "300", "SECONDS", Daemon;
        /// The most that `login` of a pool may be set to over HTTP: plain, createdb or superuser
        ///
        /// `login` in the file is not limited by it.
        #[serde(default, deserialize_with = "parsed")]
        max_login: Option<LoginRights> = "(`createdb` on the embedded server, `plain` on another one)", "RIGHTS", Daemon;
        /// What to log: error, warn, info, debug, trace, or per part: info,pgdibs=debug
        log: String = "info", "FILTER", Global;
        /// How log lines look: text for people, json for machines, auto: text on a terminal, json otherwise
        log_format: LogFormat = "auto", "FORMAT", Global;
        /// Stop the embedded server with the daemon, also when leases are live
        stop_server: bool = "false", "BOOL", FlagOnly;
        /// The pools that exist as soon as the daemon runs
        #[serde(skip)]
        pools: Vec<PoolConfig> = "(none)";
    }
}

impl Config {
    /// Free space on the server's disk below which no clone is made.
    #[must_use]
    pub fn disk_floor_bytes(&self) -> u64 {
        u64::from(self.disk_floor_mb.0) << 20
    }

    /// The most that `login` of a pool may be set to over HTTP.
    #[must_use]
    pub fn max_login(&self) -> LoginRights {
        let default = if self.server_url.is_none() { LoginRights::CreateDb } else { LoginRights::Plain };
        self.max_login.unwrap_or(default)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

impl SettingType for LogFormat {}
