//! The flags that stand for settings. Values are checked where variables and the file are checked too, so that all three say the same.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use super::layers::Raw;

/// Flags that every command takes; flatten them into the top with `global = true` already set.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct GlobalFlags {
    /// The configuration file [default: ./pgdibs.toml if it exists; PGDIBS_CONFIG]
    ///
    /// Flags win over PGDIBS_* variables, those over the file. `pgdibs config` shows every setting and where its value came from.
    #[arg(long, value_name = "PATH", global = true)]
    pub config: Option<String>,

    /// The token that callers present. Other users of this machine can read flags: prefer PGDIBS_TOKEN or --token-file
    #[arg(long, value_name = "TOKEN", global = true)]
    pub token: Option<SecretString>,

    /// A file that holds the token, such as a mounted secret
    #[arg(long, value_name = "PATH", global = true)]
    pub token_file: Option<String>,

    /// What to log: error, warn, info, debug, trace, or per part: info,pgdibs=debug [default: info]
    #[arg(long, value_name = "FILTER", global = true)]
    pub log: Option<String>,

    /// How log lines look: text for people, json for machines, auto: text on a terminal, json otherwise [default: auto]
    #[arg(long, value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
}

/// Flags of the commands that run a daemon.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeFlags {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:7432]
    ///
    /// Anything but loopback needs a token (PGDIBS_TOKEN), since whoever reaches the port gets databases.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Listen beyond loopback without a token: only where every machine that reaches the port is trusted
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_no_token: Option<String>,

    /// Names besides localhost by which callers reach the daemon, such as its service name in compose: pgdibs,pgdibs.ci.internal
    #[arg(long, value_name = "NAMES")]
    pub allowed_hosts: Option<String>,

    /// The Postgres server to manage, 14 to 18 [default: an embedded one of its own]. Prefer PGDIBS_SERVER_URL: flags can be read by others
    #[arg(long, value_name = "URL")]
    pub server_url: Option<SecretString>,

    /// A file that holds the server's URL
    #[arg(long, value_name = "PATH")]
    pub server_url_file: Option<String>,

    /// The server's address as callers see it, and named ones for callers in other networks: localhost:55432,network=postgres:5432
    ///
    /// A caller picks a named one with "via". Without this flag callers get the address the daemon itself uses.
    #[arg(long, value_name = "ADDRESSES")]
    pub advertise: Option<String>,

    /// Where the embedded server keeps its data [default: in memory when there is room, otherwise the cache directory]
    #[arg(long, value_name = "PATH")]
    pub data_dir: Option<String>,

    /// Where initdb, postgres, psql and pg_dump are [default: those of the wheel's extra `postgres`, pg_config, /usr/lib/postgresql/*/bin, Homebrew, PATH]
    #[arg(long, value_name = "PATH")]
    pub pg_bin_dir: Option<String>,

    /// Where the embedded server listens [default: loopback, a port of the data directory's own]
    ///
    /// An IP address and a port, as in 0.0.0.0:5432 for a container whose port is published. The superuser gets in from loopback only.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub postgres_listen: Option<String>,

    /// The longest a lease lives without a renewal while it is in use [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    pub max_ttl_seconds: Option<String>,

    /// No database is cloned when the server's disk has less free than this [default: 512]
    #[arg(long, value_name = "MB")]
    pub disk_floor_mb: Option<String>,

    /// How long the embedded server waits for a next daemon before it stops itself [default: 180]
    #[arg(long, value_name = "SECONDS")]
    pub linger_seconds: Option<String>,

    /// How long a template's build may take [default: 600]
    #[arg(long, value_name = "SECONDS")]
    pub build_timeout_seconds: Option<String>,

    /// After this much quiet a pool that grew falls back to its `warm` [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub idle_seconds: Option<String>,

    /// Stop the embedded server with the daemon, also when leases are live
    #[arg(long)]
    pub stop_server: bool,
}

/// Both sets, for [`super::load`].
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Of every command.
    #[command(flatten)]
    pub global: GlobalFlags,
    /// Of the commands that run a daemon; all absent elsewhere.
    #[command(flatten)]
    pub serve: ServeFlags,
}

impl Flags {
    /// What was given, by setting.
    pub fn given(&self) -> BTreeMap<&'static str, Raw> {
        let Self { global, serve } = self;
        let secret = |value: &Option<SecretString>| value.as_ref().map(|value| value.expose_secret().to_owned());
        let texts = [
            ("token", secret(&global.token)),
            ("token_file", global.token_file.clone()),
            ("log", global.log.clone()),
            ("log_format", global.log_format.clone()),
            ("listen", serve.listen.clone()),
            ("insecure_no_token", serve.insecure_no_token.clone()),
            ("allowed_hosts", serve.allowed_hosts.clone()),
            ("server_url", secret(&serve.server_url)),
            ("server_url_file", serve.server_url_file.clone()),
            ("advertise", serve.advertise.clone()),
            ("data_dir", serve.data_dir.clone()),
            ("pg_bin_dir", serve.pg_bin_dir.clone()),
            ("postgres_listen", serve.postgres_listen.clone()),
            ("max_ttl_seconds", serve.max_ttl_seconds.clone()),
            ("disk_floor_mb", serve.disk_floor_mb.clone()),
            ("linger_seconds", serve.linger_seconds.clone()),
            ("build_timeout_seconds", serve.build_timeout_seconds.clone()),
            ("idle_seconds", serve.idle_seconds.clone()),
        ];
        let texts = texts.into_iter().filter_map(|(name, value)| Some((name, Raw::Text(value?))));
        texts.chain(serve.stop_server.then_some(("stop_server", Raw::Boolean(true)))).collect()
    }
}
