//! The flags of `pgdibs run`.

use std::ffi::OsString;
use std::str::FromStr;

use clap::Args;

use super::seconds::seconds;

/// Run a command with a clean database of its own
///
/// Uses the running daemon, or starts one for the command and stops it afterwards. The command gets its database in DATABASE_URL and in
/// PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE, and the daemon in PGDIBS_URL; PGDIBS_EXPORTED lists the variables that pgdibs
/// set. pgdibs renews the lease while the command runs and ends it afterwards. It passes SIGINT, SIGTERM, SIGHUP and SIGQUIT on to the
/// command, and exits with the command's code (128 + the signal's number if a signal terminated it).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  pgdibs run -- pytest
  pgdibs run --pool myapp_test --env SQLALCHEMY_URL=postgresql+asyncpg -- pytest tests/api
  pgdibs run --alias default --alias replica -- ./integration.sh      DATABASE_URL and DATABASE_URL_REPLICA
  pgdibs run --keep-env WAREHOUSE_URL -- pytest                       WAREHOUSE_URL stays as it is, without a warning
  pgdibs run --workers 4 -- python manage.py test --parallel 4

The command inherits all other variables. If some of them have URLs of Postgres (such as postgresql+asyncpg://..., or
host=... dbname=...), a warning lists them: tests that read one reach a database that is not leased. --env sets such a variable to the
lease, --keep-env suppresses the warning. A variable that pgdibs sets keeps the driver of its inherited URL. pgdibs removes PGSERVICE
and PGHOSTADDR, with which libpq would ignore the lease, and PGSERVICEFILE, unless --keep-env names it.

--workers N is for tools that derive their workers' database names by adding _gw0, _gw1 and so on to a base name. The command then
holds exactly the slots gw0 to gwN-1 under one login that is valid for all of them. DATABASE_URL has the base name (.../myapp_test),
which is no database; the tool adds the suffix. PGDATABASE is the first of the databases, for programs that need an existing one.
docs/python/django.md has the settings for Django's `manage.py test --parallel`, and for pytest-django without the plugin of pgdibs. If
another holder has one of these slots, pgdibs waits for it, and fails after --wait.

If pgdibs run is killed with SIGKILL, the lease expires after its time to live.")]
pub(crate) struct RunArgs {
    /// The pool [default: the only one]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// The template's fingerprint, or its beginning of 4 characters or more [default: the pool's current template, the one named or built last]
    #[arg(long, value_name = "F")]
    pub(crate) fingerprint: Option<String>,
    /// A database for each alias; the first one's is in DATABASE_URL, each other's in DATABASE_URL_<ALIAS>
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Vec<String>,
    /// Hold the slots gw0 to gwN-1 under one login; see below
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), conflicts_with = "alias")]
    pub(crate) workers: Option<u32>,
    /// The lease's time to live without a renewal, 1 to 3600 [default: the daemon's, 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u64>,
    /// How long to wait for the database, and for a daemon that pgdibs starts
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "120")]
    pub(crate) wait: f64,
    /// Which of the daemon's advertised addresses to use
    #[arg(long, value_name = "NAME", env = "PGDIBS_VIA", hide_env_values = true)]
    pub(crate) via: Option<String>,
    /// Who holds the lease, shown in the status [default: user, machine, process and command]
    #[arg(long, value_name = "TEXT")]
    pub(crate) holder: Option<String>,
    /// Set one more variable to the URL with this scheme: TEST_DATABASE_URL=postgresql+asyncpg; without SCHEME, with that of the
    /// inherited variable. Can be given several times
    #[arg(long, value_name = "VAR[=SCHEME]")]
    pub(crate) env: Vec<Assignment>,
    /// Do not warn about this variable, whose database is not leased. It need not exist. Can be given several times
    #[arg(long, value_name = "VAR", value_parser = variable)]
    pub(crate) keep_env: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// A variable to set to the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) variable: String,
    /// The text before `://`; `None` for that of the daemon's URL.
    pub(crate) scheme: Option<String>,
}

fn variable(text: &str) -> Result<String, String> {
    match text {
        "" => Err("write the name of a variable".to_owned()),
        text if text.contains('=') => Err("write the name alone, without a value".to_owned()),
        text => Ok(text.to_owned()),
    }
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (variable, scheme) = match text.split_once('=') {
            Some((variable, scheme)) => (variable, Some(scheme.trim_end_matches("://"))),
            None => (text, None),
        };
        let mut letters = variable.bytes();
        let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
        if !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == b'_') {
            return Err(format!("`{variable}` is not the name of a variable; write VAR or VAR=postgresql+asyncpg"));
        }
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if let Some(scheme) = scheme
            && (!scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(word))
        {
            return Err(format!("`{scheme}` is not a scheme; write the part before ://, such as postgresql+asyncpg"));
        }
        Ok(Self { variable: variable.to_owned(), scheme: scheme.map(str::to_owned) })
    }
}
