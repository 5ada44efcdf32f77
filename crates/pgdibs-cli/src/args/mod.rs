//! The command line for clap: commands, flags and their help.

mod diagnose;
mod leases;
mod pools;
pub(crate) mod run;
pub(crate) mod seconds;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use super::output::Format;
use pgdibs::api::event::EventKind;
use pgdibs_server::config::{GlobalFlags, ServeFlags};

pub(super) use diagnose::DiagnoseArgs;
pub(super) use leases::{IdArgs, KeepArgs, LeaseArgs, PsqlArgs, ReleaseArgs, RenewArgs, ResetArgs};
pub(super) use pools::{
    ExportArgs, ImportArgs, PoolCommand, PoolDropArgs, PoolSetArgs, TemplateArgs, TemplateBuildArgs, TemplateCommand,
    TemplateListArgs, TemplateOrNewestArgs,
};
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
  pgdibs run -- pytest       a clean database for one command; starts a daemon if none runs
  pgdibs serve               the daemon, with an embedded Postgres or yours (PGDIBS_SERVER_URL)
  pgdibs status --watch      pools, templates and leases

Exit codes: 0 success, 1 failure, 2 wrong command line, 65 damaged file (`pgdibs template import`), 69 no daemon answers, 78 wrong \
configuration.
`pgdibs run` and `pgdibs template build` exit with the code of their command. `pgdibs healthcheck` exits with 1 for 69 and 78, \
because container runtimes know 0 and 1 alone.

With --output json, results are JSON on standard output ({} for a command without a result) and an error is a JSON object on standard \
error: the problem document of the API, or {\"code\": ..., \"detail\": ...}."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,

    /// The daemon's address [default: the configured listening address, http://127.0.0.1:7432]
    #[arg(long, value_name = "URL", env = "PGDIBS_URL", hide_env_values = true, global = true, help_heading = GLOBAL)]
    pub(super) url: Option<String>,

    /// The format of results: text, or the JSON of the API. Messages go to standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, global = true, help_heading = GLOBAL)]
    pub(super) output: Format,

    #[command(flatten, next_help_heading = GLOBAL)]
    pub(super) global: GlobalFlags,
}

/// The heading of the options that every command takes.
const GLOBAL: &str = "Global options";

/// The commands, the most used first.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(RunArgs),
    Serve(ServeArgs),
    Stop(StopArgs),
    Status(StatusArgs),
    Events(EventsArgs),
    Lease(LeaseArgs),
    Renew(RenewArgs),
    Reset(ResetArgs),
    Keep(KeepArgs),
    Release(ReleaseArgs),
    Psql(PsqlArgs),
    Runs(RunsArgs),
    /// List, create, change and drop pools
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Build, list, show, export, import and drop templates
    #[command(subcommand)]
    Template(TemplateCommand),
    Config(ConfigArgs),
    Diagnose(DiagnoseArgs),
    Doctor(DoctorArgs),
    Healthcheck(HealthcheckArgs),
    Purge(PurgeArgs),
    Completions(CompletionsArgs),
}

/// Run the daemon
///
/// Without a configured server it starts an embedded Postgres. It logs to standard error and stops on SIGTERM or SIGINT; a second
/// signal stops it at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs serve
  PGDIBS_SERVER_URL=postgresql://postgres:secret@db:5432/postgres pgdibs serve
  pgdibs serve --listen 127.0.0.1:0 --data-dir /dev/shm/pgdibs")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) flags: ServeFlags,
    /// Shut down when standard input is closed and no lease, ticket or build is left. `pgdibs run` sets it: its daemon must not outlive
    /// it, unless another run uses the daemon.
    #[arg(long, hide = true)]
    pub(super) end_with_stdin: bool,
    /// Shut down when no request has arrived for so many seconds and nothing is in use. The Python client sets it: its daemon stays for
    /// the next test run, for a limited time.
    #[arg(long, hide = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(super) end_when_idle: Option<u64>,
}

/// Stop the daemon of this machine
///
/// Ends the daemon on the data directory, whether `pgdibs serve`, `pgdibs run` or a client started it, and waits until it has ended.
/// With live leases its Postgres stays for the next daemon. A daemon of another machine, or one that a service manager runs, is stopped
/// there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs stop
  pgdibs stop --data-dir /dev/shm/pgdibs-ci")]
pub(super) struct StopArgs {
    /// The data directory of the daemon [default: the configured one]
    #[arg(long, value_name = "PATH")]
    pub(super) data_dir: Option<String>,
}

/// Show the server, the pools, the templates and the leases with their holders
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs status
  pgdibs status --watch               a screen with keys; ? lists them
  pgdibs status --output json | jq '.pools[].counts'")]
pub(super) struct StatusArgs {
    /// A screen that updates every second; without a terminal a line when something changes, or JSON every second
    #[arg(long)]
    pub(super) watch: bool,
}

/// List test runs: those that go on, and where the time of the last ones went
///
/// A run appears when it leases a database. The plugin for pytest reports its times at the end; the daemon keeps the last 200 reports of
/// each pool.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs runs
  pgdibs runs --pool myapp_test
  pgdibs runs --output json | jq '.runs[] | {run, seconds, workers}'")]
pub(super) struct RunsArgs {
    /// Only those on this pool
    #[arg(long, value_name = "POOL")]
    pub(super) pool: Option<String>,
}

/// Show what happened: leases, waits, templates, clones, faults
///
/// One line for each event, oldest first: the last 1,000 that the daemon knows. With --follow, what happens from now on, until it is
/// interrupted; when the daemon restarts, the command connects again and shows a line `gap` if events are missing. With --output json each
/// line is an event of the API.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs events
  pgdibs events --follow --pool myapp_test
  pgdibs events --kind template_failed,step_failed
  pgdibs events --follow --output json | jq -c 'select(.kind == \"wait_ended\")'")]
pub(super) struct EventsArgs {
    /// Go on with what happens from now on
    #[arg(long)]
    pub(super) follow: bool,
    /// Only events of this pool; repeated, or with commas
    #[arg(long, value_name = "POOL", value_delimiter = ',')]
    pub(super) pool: Vec<String>,
    /// Only events of this kind; repeated, or with commas
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = PossibleValuesParser::new(EventKind::names()))]
    pub(super) kind: Vec<String>,
}

/// Check the daemon; exit 0 if it is healthy, 1 otherwise
///
/// Without --ready: the daemon answers, even if its server is down. With --ready: the server is reachable and every configured
/// template is ready. A daemon that does not answer within 5 seconds is not healthy. Where other commands exit with 69 (no daemon
/// answers) or 78 (wrong configuration), this one exits with 1.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, in a Dockerfile:
  HEALTHCHECK CMD [\"pgdibs\", \"healthcheck\", \"--ready\"]")]
pub(super) struct HealthcheckArgs {
    /// Check that databases can be leased, not only that the daemon answers
    #[arg(long)]
    pub(super) ready: bool,
}

/// Show every setting, its value and the value's origin
///
/// A flag overrides a PGDIBS_* variable, which overrides the file, which overrides the default. Secrets are masked. The command takes
/// the daemon's flags, to show their effect.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs config
  pgdibs config --output json | jq '.settings[] | select(.origin != \"default\")'")]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    pub(super) flags: ServeFlags,
}

/// Say what of a Postgres server slows tests down or breaks them
///
/// One line for each finding: what is set, what a server for tests wants, why, what it costs there now, and the line that changes it. It
/// measures a few commits, a checkpoint, and databases that it makes and drops; it changes nothing else. Exit codes: 0 nothing worse
/// than a note, 3 a warning, 1 an error or a server that does not answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs doctor                       the configured server, or the embedded one that runs
  PGDIBS_SERVER_URL=postgresql://postgres:secret@db:5432/postgres pgdibs doctor
  pgdibs doctor --output json | jq '.findings[].fix'")]
pub(super) struct DoctorArgs {
    /// The server [default: the configured one]. Prefer PGDIBS_SERVER_URL: other users can read flags
    #[arg(long, value_name = "URL")]
    pub(super) server_url: Option<SecretString>,
}

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs completions bash > ~/.local/share/bash-completion/completions/pgdibs
  pgdibs completions zsh > ~/.zfunc/_pgdibs
  pgdibs completions fish > ~/.config/fish/completions/pgdibs.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

/// Remove everything that pgdibs created on a server: databases, logins, roles, the catalog
///
/// Lists what it would remove, then asks. It removes only objects that have the owner role, the catalog row and the name that pgdibs
/// gives. It refuses while a daemon serves that server, because that daemon would create everything again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs purge                        the configured server, or the embedded one
  pgdibs purge --server-url postgresql://postgres:secret@db:5432/postgres
  pgdibs purge --embedded --yes       the embedded server, from a script")]
pub(super) struct PurgeArgs {
    /// The server [default: the configured one]. Prefer PGDIBS_SERVER_URL: other users can read flags
    #[arg(long, value_name = "URL", conflicts_with = "embedded")]
    pub(super) server_url: Option<SecretString>,
    /// The embedded server, even if another is configured
    #[arg(long)]
    pub(super) embedded: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(super) yes: bool,
    /// Purge even while a daemon serves that server
    #[arg(long)]
    pub(super) force: bool,
}
