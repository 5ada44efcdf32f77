//! The flags of the commands about pools and templates.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::seconds::seconds;

/// List, create, change and drop pools
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// List the pools with their counts
    #[command(after_help = "\
Example:
  pgdibs pool list")]
    List,
    Set(PoolSetArgs),
    Drop(PoolDropArgs),
}

/// Create or change a pool
///
/// A pool's name is the base name of its databases: myapp_test has myapp_test_gw0, myapp_test_gw1 and so on. Settings without a flag
/// stay as they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs pool set myapp_test --warm 4 --max 16
  pgdibs pool set myapp_test --login createdb")]
pub(crate) struct PoolSetArgs {
    /// The pool: a small letter or _, then small letters, digits and _, 40 characters at most
    pub(crate) pool: String,
    /// How many databases are kept ready
    #[arg(long, value_name = "N")]
    pub(crate) warm: Option<u32>,
    /// The maximum number of slots
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u32>,
    /// How many clones are kept as spares for used databases
    #[arg(long, value_name = "N")]
    pub(crate) spares: Option<u32>,
    /// What the logins of leases may do beyond their own database
    #[arg(long, value_name = "RIGHTS", value_parser = ["plain", "createdb", "superuser"])]
    pub(crate) login: Option<String>,
}

/// Drop a pool with its databases and templates
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pgdibs pool drop myapp_test --force")]
pub(crate) struct PoolDropArgs {
    /// The pool
    pub(crate) pool: String,
    /// Drop it even while it has leases; they are revoked
    #[arg(long)]
    pub(crate) force: bool,
}

/// Build, list, show, export, import and drop templates
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    Build(TemplateBuildArgs),
    List(TemplateListArgs),
    /// Show a template in full, with the error of its build
    #[command(after_help = "\
Examples:
  pgdibs template show myapp_test
  pgdibs template show myapp_test 5e884898")]
    Show(TemplateOrNewestArgs),
    /// Print the whole output of a template's build by the daemon
    ///
    /// Of an output beyond 2 MB the beginning and the end.
    #[command(after_help = "\
Examples:
  pgdibs template log myapp_test
  pgdibs template log myapp_test 5e884898")]
    Log(TemplateOrNewestArgs),
    /// Drop a template; the daemon builds that of its present inputs again
    #[command(after_help = "\
Example:
  pgdibs template drop myapp_test 5e884898")]
    Drop(TemplateArgs),
    Export(ExportArgs),
    Import(ImportArgs),
}

/// Write a template to a file, for daemons on other servers
///
/// pgdibs leases a clone of the template, dumps it with pg_dump, and writes the file under its name when it is complete. The file has the
/// dump, the fingerprint, the pool's settings, and what no dump has: the versions of Postgres and of the extensions, encoding and locale,
/// the settings of the database. Prints the fingerprint. This machine needs pg_dump, pg_restore and psql of the server's major version or
/// newer: pgdibs searches them in --pg-bin-dir (PGDIBS_PG_BIN_DIR) if set, otherwise in the directories of packages and on PATH.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs template export --pool myapp_test .cache/myapp_test.pgdibs
  pgdibs template export --pool myapp_test --fingerprint 5e884898 .cache/myapp_test.pgdibs
  sed -n 2p .cache/myapp_test.pgdibs | jq .                    what it is a template of
  tail -n +3 .cache/myapp_test.pgdibs | pg_restore --list      what it contains")]
pub(crate) struct ExportArgs {
    /// The file, which is replaced if it exists
    pub(crate) file: PathBuf,
    /// The pool
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: String,
    /// The template's fingerprint, or its beginning of 4 characters or more [default: the pool's current template, the one named or built last]
    #[arg(long, value_name = "F")]
    pub(crate) fingerprint: Option<String>,
    /// How long to wait for a clone of it
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    pub(crate) wait: f64,
    /// Which of the daemon's advertised addresses to use
    #[arg(long, value_name = "NAME", env = "PGDIBS_VIA", hide_env_values = true)]
    pub(crate) via: Option<String>,
    /// The directory of pg_dump, pg_restore and psql
    #[arg(long, value_name = "PATH")]
    pub(crate) pg_bin_dir: Option<String>,
}

/// Build a template from a file of `pgdibs template export`, unless it exists
///
/// The template has the fingerprint of the exported one, and its clones show what the clones of that one show. If the pool does not exist,
/// pgdibs creates it with the settings that the template depends on: extensions, roles, locale, encoding, login, act_as. pgdibs refuses a
/// file of another major version of Postgres, of another encoding or locale, and of extensions in versions that this server does not
/// have. If another process is building the same fingerprint, pgdibs waits for that build. Prints the fingerprint. Exits with 65 if the
/// file is damaged. The file's SQL runs with the rights of the pool's builds: import only files that you would run as migrations.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs template import .cache/myapp_test.pgdibs
  pgdibs template import .cache/myapp_test.pgdibs || pgdibs template build myapp_test --inputs 'migrations/*' -- ./migrate")]
pub(crate) struct ImportArgs {
    /// The file
    pub(crate) file: PathBuf,
    /// The pool [default: the one that the template was exported from]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// How long to wait for the build of another process
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    pub(crate) wait: f64,
    /// Which of the daemon's advertised addresses to use
    #[arg(long, value_name = "NAME", env = "PGDIBS_VIA", hide_env_values = true)]
    pub(crate) via: Option<String>,
    /// The directory of pg_dump, pg_restore and psql
    #[arg(long, value_name = "PATH")]
    pub(crate) pg_bin_dir: Option<String>,
}

/// List the templates
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs template list
  pgdibs template list myapp_test
  pgdibs template list myapp_test 5e884898")]
pub(crate) struct TemplateListArgs {
    /// Only those of this pool
    pub(crate) pool: Option<String>,
    /// Only those whose fingerprint begins with this
    pub(crate) fingerprint: Option<String>,
}

/// Build a template with a command, unless it exists
///
/// The command gets an empty database in DATABASE_URL and PG*, and fills it. If the command succeeds, pgdibs seals the database as the
/// template. If it fails, pgdibs drops the database and exits with the command's code. If another process is building the same
/// fingerprint, pgdibs waits for that build. If the pool does not exist, pgdibs creates it. Prints the fingerprint.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("identity").required(true).args(["fingerprint", "inputs"])),
    after_help = "\
Examples:
  pgdibs template build myapp_test --inputs 'migrations/**/*.py' -- alembic upgrade head
  pgdibs template build myapp_test --fingerprint \"$(git rev-parse HEAD:migrations)\" -- ./manage.py migrate

A pool with a source in pgdibs.toml does not need this command: the daemon builds its template, and again when the inputs change."
)]
pub(crate) struct TemplateBuildArgs {
    /// The pool
    pub(crate) pool: String,
    /// The version of the schema, any text: a git tree id, a hash of the migrations
    #[arg(long, value_name = "F")]
    pub(crate) fingerprint: Option<String>,
    /// Compute the fingerprint from the names and contents of these files and from the command; can be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) inputs: Vec<String>,
    /// How long to wait for the build of another process
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    pub(crate) wait: f64,
    /// Which of the daemon's advertised addresses to use
    #[arg(long, value_name = "NAME", env = "PGDIBS_VIA", hide_env_values = true)]
    pub(crate) via: Option<String>,
    /// The command that fills the database
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// A template; without fingerprint the newest of the pool.
#[derive(Debug, Args)]
pub(crate) struct TemplateOrNewestArgs {
    /// The pool
    pub(crate) pool: String,
    /// The template's fingerprint, or its beginning [default: the last build's]
    pub(crate) fingerprint: Option<String>,
}

/// A template.
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// The pool
    pub(crate) pool: String,
    /// The template's fingerprint, or its beginning: 4 characters or more that no other template of the pool begins with
    pub(crate) fingerprint: String,
}
