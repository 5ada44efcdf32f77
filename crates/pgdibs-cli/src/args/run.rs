//! The flags of `pgdibs run`.

use std::ffi::OsString;
use std::str::FromStr;

use clap::Args;

use super::seconds::seconds;

/// Run a command with a clean database of its own
///
/// Uses the daemon that runs, or starts one for the command and stops it afterwards. The command finds its database in
/// DATABASE_URL and in PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE, and the daemon in PGDIBS_URL; PGDIBS_EXPORTED lists the
/// variables that were set. The lease is renewed while the command runs and ends with it. The command's exit code is ours (128 + the signal's number when a signal ended it), and SIGINT,
/// SIGTERM, SIGHUP and SIGQUIT pass through to it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  pgdibs run -- pytest
  pgdibs run --pool myapp_test --env SQLALCHEMY_URL=postgresql+asyncpg -- pytest tests/api
  pgdibs run --alias default --alias replica -- ./integration.sh      DATABASE_URL and DATABASE_URL_REPLICA
  pgdibs run --keep-env WAREHOUSE_URL -- pytest                       WAREHOUSE_URL is to be reached as it is
  pgdibs run --workers 4 -- pytest -n 4 --reuse-db

The command inherits all other variables. When some of these hold URLs of Postgres (postgresql+asyncpg://... and the like, or
host=... dbname=...), a warning lists them: tests that read one reach a database that is not leased. --env sets such a variable to the
lease, --keep-env says that it is meant. A variable that is set keeps the driver that its URL had. PGSERVICE and PGHOSTADDR, which
would lead libpq past the lease, are removed; so is PGSERVICEFILE, unless --keep-env names it.

--workers N is for tools that make their workers' database names themselves, by adding _gw0, _gw1 and so on to a base name, such as
pytest-django with --reuse-db. The command then holds exactly the slots gw0 to gwN-1 under one login that is valid for all of them.
DATABASE_URL carries the base name (.../myapp_test), which is no database itself: the tool adds the rest. PGDATABASE is the first of the
databases, for what needs one that exists. In Django settings, NAME is PGDATABASE and TEST.NAME the base name. If one of these slots is held by somebody else the command waits, and after --wait it
does not start.

When pgdibs run is killed with -9 nobody ends the lease; it ends by itself after its time to live.")]
pub(crate) struct RunArgs {
    /// The pool [default: the only one there is]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// The template's fingerprint [default: the pool's newest ready template]
    #[arg(long, value_name = "F")]
    pub(crate) fingerprint: Option<String>,
    /// A database for each alias; the first one's is in DATABASE_URL, each other's in DATABASE_URL_<ALIAS>
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Vec<String>,
    /// Hold the slots gw0 to gwN-1 under one login; see below
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), conflicts_with = "alias")]
    pub(crate) workers: Option<u32>,
    /// How long the lease lives without a renewal, 1 to 3600 [default: the daemon's, 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u64>,
    /// How long to wait for the database, and for a daemon that was started for the command
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "120")]
    pub(crate) wait: f64,
    /// Which of the daemon's advertised addresses to use
    #[arg(long, value_name = "NAME", env = "PGDIBS_VIA", hide_env_values = true)]
    pub(crate) via: Option<String>,
    /// Who you are, for others who look at the status [default: user, machine, process and command]
    #[arg(long, value_name = "TEXT")]
    pub(crate) holder: Option<String>,
    /// One more variable with the URL, its scheme replaced: TEST_DATABASE_URL=postgresql+asyncpg; without SCHEME, the one that the
    /// variable has. Can be given several times
    #[arg(long, value_name = "VAR[=SCHEME]")]
    pub(crate) env: Vec<Assignment>,
    /// A variable that is meant to lead to a database that is not leased: no warning about it. It need not exist. Can be given
    /// several times
    #[arg(long, value_name = "VAR", value_parser = variable)]
    pub(crate) keep_env: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// A variable that is to carry the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The variable.
    pub(crate) variable: String,
    /// What stands before `://`; absent: as the daemon has it.
    pub(crate) scheme: Option<String>,
}

/// The name of a variable.
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
            return Err(format!(
                "`{scheme}` is not a scheme; write what stands before ://, such as postgresql+asyncpg"
            ));
        }
        Ok(Self { variable: variable.to_owned(), scheme: scheme.map(str::to_owned) })
    }
}
