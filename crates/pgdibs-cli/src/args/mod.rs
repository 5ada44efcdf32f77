//! The command line as clap sees it. What a command means stands in its own help, with examples.

mod leases;
mod pools;
mod run;
mod seconds;
#[cfg(test)]
mod tests;

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use super::output::Format;
use pgdibs_server::config::{GlobalFlags, ServeFlags};

pub(super) use leases::{IdArgs, KeepArgs, LeaseArgs, PsqlArgs, ReleaseArgs, RenewArgs, ResetArgs};
pub(super) use pools::{PoolCommand, PoolDropArgs, PoolSetArgs, TemplateBuildArgs, TemplateCommand, TemplateDropArgs};
#[cfg(test)]
use run::Assignment;
pub(super) use run::RunArgs;

/// Call dibs on a clean Postgres database.
///
/// pgdibs builds a schema template once, keeps a warm pool of clones with stable names, and hands them out as leases: one clean
/// database per test worker, in about a millisecond.
#[derive(Debug, Parser)]
#[command(
    name = "pgdibs",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Start here:
  pgdibs run -- pytest       a clean database for one command, daemon included
  pgdibs serve               the daemon, with a Postgres of its own or yours (PGDIBS_SERVER_URL)
  pgdibs status --watch      what it has and who holds it

Exit codes: 0 done, 1 not done, 2 wrong command line, 69 no daemon answers, 78 wrong configuration;
`pgdibs run` ends with its command's own code."
)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,

    /// The daemon's address [default: where the configuration makes it listen, http://127.0.0.1:7432]
    #[arg(long, value_name = "URL", env = "PGDIBS_URL", hide_env_values = true, global = true)]
    pub(super) url: Option<String>,

    /// How results look: text for people, json as the API has it. Messages go to standard error in either case
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, global = true)]
    pub(super) output: Format,

    /// Of every command.
    #[command(flatten)]
    pub(super) global: GlobalFlags,
}

/// The commands, those used most first.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(RunArgs),
    Serve(ServeArgs),
    Status(StatusArgs),
    Lease(LeaseArgs),
    Renew(RenewArgs),
    Reset(ResetArgs),
    Keep(KeepArgs),
    Release(ReleaseArgs),
    Psql(PsqlArgs),
    /// List, make, change and drop pools
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Build, list and drop templates
    #[command(subcommand)]
    Template(TemplateCommand),
    Config(ConfigArgs),
    Healthcheck(HealthcheckArgs),
    Purge(PurgeArgs),
    Completions(CompletionsArgs),
}

/// Run the daemon
///
/// Without a server of its own configured it starts an embedded Postgres. It logs to standard error and stops on SIGTERM or SIGINT;
/// a second one stops it at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs serve
  PGDIBS_SERVER_URL=postgresql://postgres:secret@db:5432/postgres pgdibs serve
  pgdibs serve --listen 127.0.0.1:0 --data-dir /dev/shm/pgdibs")]
pub(super) struct ServeArgs {
    /// The daemon's settings.
    #[command(flatten)]
    pub(super) flags: ServeFlags,
    /// End orderly when standard input is closed and nobody holds anything: the daemon of a `pgdibs run` must not outlive it, unless
    /// another run has come to it meanwhile.
    #[arg(long, hide = true)]
    pub(super) end_with_stdin: bool,
    /// End orderly when nobody has asked for anything, or had anything, for so many seconds: a daemon that a test run starts is
    /// left for the next run, not for ever.
    #[arg(long, hide = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(super) end_when_idle: Option<u64>,
}

/// Show the server, the pools, the templates and who holds what
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs status
  pgdibs status --watch
  pgdibs status --output json | jq '.pools[].counts'")]
pub(super) struct StatusArgs {
    /// Draw it again every second until interrupted
    #[arg(long)]
    pub(super) watch: bool,
}

/// Say in one line whether the daemon is well; exit 0 if it is, 1 otherwise
///
/// Without --ready: the daemon's process answers, also before its server does. With --ready: the server is reachable and every
/// configured template is ready.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, in a Dockerfile:
  HEALTHCHECK CMD [\"pgdibs\", \"healthcheck\", \"--ready\"]")]
pub(super) struct HealthcheckArgs {
    /// Ask whether databases can be had, not only whether the process is up
    #[arg(long)]
    pub(super) ready: bool,
}

/// Show every setting, its value and where it came from
///
/// A flag wins over a PGDIBS_* variable, that over the file, that over the default. Secrets are masked. The daemon's flags can be
/// given to see what they would do.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The daemon's settings.
    #[command(flatten)]
    pub(super) flags: ServeFlags,
}

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs completions bash > ~/.local/share/bash-completion/completions/pgdibs
  pgdibs completions zsh > ~/.zfunc/_pgdibs
  pgdibs completions fish > ~/.config/fish/completions/pgdibs.fish")]
pub(super) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

/// Take everything of ours off a server: databases, logins, roles, the catalog
///
/// Lists what would go, then asks. Only what carries our mark is touched: our owner role, our row and our name. Refused while a
/// daemon serves that server, since it would make everything again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs purge                        the configured server, or the embedded one
  pgdibs purge --server-url postgresql://postgres:secret@db:5432/postgres
  pgdibs purge --embedded --yes       in a script")]
pub(super) struct PurgeArgs {
    /// The server [default: the configured one]. Prefer PGDIBS_SERVER_URL: flags can be read by others
    #[arg(long, value_name = "URL", conflicts_with = "embedded")]
    pub(super) server_url: Option<SecretString>,
    /// The embedded server, also when another is configured
    #[arg(long)]
    pub(super) embedded: bool,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// Also while a daemon serves that server
    #[arg(long)]
    pub(super) force: bool,
}
