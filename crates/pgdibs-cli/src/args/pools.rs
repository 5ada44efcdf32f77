//! The flags of the commands about pools and templates.

use std::ffi::OsString;

use clap::{ArgGroup, Args, Subcommand};

use super::seconds::seconds;

/// List, make, change and drop pools
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// List the pools with their counts
    List,
    Set(PoolSetArgs),
    Drop(PoolDropArgs),
}

/// Make a pool, or change one
///
/// A pool's name is the base name that its databases carry: myapp_test has myapp_test_gw0, myapp_test_gw1 and so on. What is left
/// out stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pgdibs pool set myapp_test --warm 4 --max 16")]
pub(crate) struct PoolSetArgs {
    /// The pool: a small letter or _, then small letters, digits and _, 40 characters at most
    pub(crate) pool: String,
    /// How many databases stand ready
    #[arg(long, value_name = "N")]
    pub(crate) warm: Option<u32>,
    /// How many slots there can be
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u32>,
    /// How many clones stand by to take a used database's place
    #[arg(long, value_name = "N")]
    pub(crate) spares: Option<u32>,
}

/// Drop a pool with its databases and templates
#[derive(Debug, Args)]
pub(crate) struct PoolDropArgs {
    /// The pool.
    pub(crate) pool: String,
    /// Also while it has leases; they are revoked
    #[arg(long)]
    pub(crate) force: bool,
}

/// Build, list and drop templates
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    Build(TemplateBuildArgs),
    /// List the templates
    List {
        /// Of this pool only
        pool: Option<String>,
    },
    Drop(TemplateDropArgs),
}

/// Build a template with a command of yours, unless it is there already
///
/// The command gets an empty database in DATABASE_URL and PG*, and fills it. When it ends well the database is sealed and becomes the
/// template; when it does not, the database is dropped and the command's exit code is ours. Somebody else's build of the same
/// fingerprint is waited for. Prints the fingerprint.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("identity").required(true).args(["fingerprint", "inputs"])),
    after_help = "\
Examples:
  pgdibs template build myapp_test --inputs 'migrations/**/*.py' -- alembic upgrade head
  pgdibs template build myapp_test --fingerprint \"$(git rev-parse HEAD:migrations)\" -- ./manage.py migrate

A pool whose source is in pgdibs.toml needs none of this: the daemon builds it, and again when its inputs change."
)]
pub(crate) struct TemplateBuildArgs {
    /// The pool.
    pub(crate) pool: String,
    /// What the schema is made from, in any words of yours: a git tree id, a hash of the migrations
    #[arg(long, value_name = "F")]
    pub(crate) fingerprint: Option<String>,
    /// Make the fingerprint from these files' names and contents and from the command; can be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) inputs: Vec<String>,
    /// How long to wait for somebody else's build
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    pub(crate) wait: f64,
    /// Which of the daemon's advertised addresses to use
    #[arg(long, value_name = "NAME", env = "PGDIBS_VIA", hide_env_values = true)]
    pub(crate) via: Option<String>,
    /// What fills the database
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Drop a template
#[derive(Debug, Args)]
pub(crate) struct TemplateDropArgs {
    /// The pool.
    pub(crate) pool: String,
    /// The template's fingerprint
    pub(crate) fingerprint: String,
}
