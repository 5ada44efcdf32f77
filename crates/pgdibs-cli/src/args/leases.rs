//! The flags of the commands about leases.

use clap::{ArgGroup, Args};

use super::seconds::seconds;

/// Lease a database; print its URL
///
/// The lease ends when it is released, or when it was not renewed for its time to live and no session is connected. Standard output
/// has the URL alone; the lease's id is on standard error, and in the output of --export and --output json.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  DATABASE_URL=$(pgdibs lease myapp_test --ttl 600) pytest
  eval \"$(pgdibs lease myapp_test --export)\"; pytest; pgdibs release \"$PGDIBS_LEASE\"
  pgdibs lease myapp_test --fingerprint \"$(git rev-parse HEAD:migrations)\" --output json | jq -r .id

To lease a database for as long as a command runs, use `pgdibs run`.")]
pub(crate) struct LeaseArgs {
    /// The pool
    pub(crate) pool: String,
    /// The template's fingerprint, or its beginning of 4 characters or more [default: the pool's current template, the one named or built last]
    #[arg(long, value_name = "F")]
    pub(crate) fingerprint: Option<String>,
    /// The worker's name; gwN gets slot N if that is ready
    #[arg(long, value_name = "NAME")]
    pub(crate) worker: Option<String>,
    /// The test session, a UUID: the same run, worker and alias get the same lease again
    #[arg(long, value_name = "UUID")]
    pub(crate) run: Option<String>,
    /// Which of a worker's databases this is
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Option<String>,
    /// The lease's time to live without a renewal, 1 to 3600 [default: the daemon's, 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u64>,
    /// How long to wait for a database
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub(crate) wait: f64,
    /// Which of the daemon's advertised addresses the URL has
    #[arg(long, value_name = "NAME", env = "PGDIBS_VIA", hide_env_values = true)]
    pub(crate) via: Option<String>,
    /// Who holds the lease, shown in the status [default: user, machine and process]
    #[arg(long, value_name = "TEXT")]
    pub(crate) holder: Option<String>,
    /// Print lines for a shell to evaluate, with DATABASE_URL, PGHOST and so on, and PGDIBS_LEASE
    #[arg(long)]
    pub(crate) export: bool,
}

/// A lease by its id.
#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The lease's id, or the name of the database it holds (`myapp_test_gw0`)
    #[arg(value_name = "LEASE")]
    pub(crate) lease: String,
}

/// Renew a lease
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pgdibs renew myapp_test_gw0 --ttl 600")]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    /// The lease's new time to live, 1 to 3600
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u64>,
}

/// Replace a lease's database by a new clone: same id, same URL
///
/// Ends every session on the old database.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pgdibs reset myapp_test_gw0")]
pub(crate) struct ResetArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    /// How long to wait for the new clone
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub(crate) wait: f64,
}

/// Keep a lease's database as it is, to inspect it later
///
/// At the lease's next reset or end the database gets the printed name and a login of its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pgdibs keep myapp_test_gw0 --reason 'test_refund failed'
  pgdibs psql myapp_test_kept_7")]
pub(crate) struct KeepArgs {
    #[command(flatten)]
    pub(crate) id: IdArgs,
    /// How long to keep it
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) seconds: u64,
    /// The reason, shown in the status
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// End a lease, all leases of a run, or a kept database
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs release myapp_test_gw0
  pgdibs release --run \"$PGDIBS_RUN\"
  pgdibs release myapp_test_kept_7    drops the kept database")]
#[command(group(ArgGroup::new("what").required(true).args(["lease", "run"])))]
pub(crate) struct ReleaseArgs {
    /// The lease's id, the name of the database it holds (`myapp_test_gw0`), or that of a kept database (`myapp_test_kept_7`). The id of a
    /// lease that has ended drops what is kept for it
    pub(crate) lease: Option<String>,
    /// The run: its leases end, and it can acquire no more
    #[arg(long, value_name = "UUID")]
    pub(crate) run: Option<String>,
}

/// Open psql on a leased or kept database
///
/// pgdibs searches psql in --pg-bin-dir (PGDIBS_PG_BIN_DIR) if set, otherwise on PATH, in the directory of pg_config, and in those of
/// packages, such as /usr/lib/postgresql. psql gets the password in its environment, not as an argument.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  pgdibs psql                         the only leased database
  pgdibs psql gw0                     the leased database whose name ends with _gw0
  pgdibs psql myapp_test_gw0
  pgdibs psql myapp_test_kept_7 -- -c 'select count(*) from orders'")]
pub(crate) struct PsqlArgs {
    /// A leased database (myapp_test_gw0, gw0), a lease's id, or a kept database
    #[arg(value_name = "SLOT|KEPT")]
    pub(crate) name: Option<String>,
    /// The directory of psql
    #[arg(long, value_name = "PATH")]
    pub(crate) pg_bin_dir: Option<String>,
    /// Arguments for psql
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<std::ffi::OsString>,
}
