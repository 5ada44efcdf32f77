//! The command line: from arguments to an exit code. The binary is named `pgdibs`.

mod args;
mod client_build;
mod command;
mod completions;
mod configuration;
mod context;
mod diagnose;
mod doctor;
mod error;
mod events;
mod fingerprint;
mod healthcheck;
mod inherited;
mod leases;
mod output;
mod parse;
mod pools;
mod progress;
mod psql;
mod purge;
mod render;
mod run;
mod runs;
mod runtime;
mod serve;
mod signals;
mod status;
mod stop;
mod table;
mod templates;
mod transfer;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use pgdibs_server::offline::{SupervisorArgs, supervise};
use tokio::runtime::Builder;

use self::args::Command;
use self::context::Context;
use self::error::CliError;
use self::output::{Format, Output};
use self::runtime::runtime;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    if let Some(args) = SupervisorArgs::recognise(std::env::args_os()) {
        return supervise(args);
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match parse::parse(&words) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && parse::wants_json(&words) => {
            let error = CliError::usage(error.render().to_string().trim().trim_start_matches("error: "));
            return ExitCode::from(output::print_error(&error, Format::Json));
        }
        Err(error) => error.exit(),
    };
    let output = Output::new(cli.output);
    let url = cli.url.filter(|url| !url.is_empty());
    let context = Context { output, global: cli.global, url };
    let result = match cli.command {
        Command::Serve(args) => serve::serve(&context, args),
        // Container runtimes know the exit codes 0 and 1 alone.
        Command::Healthcheck(args) => one_task(healthcheck::healthcheck(&context, &args))
            .map(ExitCode::from)
            .or_else(|error| Ok(ExitCode::from(output::print_error(&error, cli.output).min(error::FAILED)))),
        command => one_task(other(&context, command)).map(ExitCode::from),
    };
    result.unwrap_or_else(|error| ExitCode::from(output::print_error(&error, cli.output)))
}

/// Runs a command other than `serve` and `healthcheck`; returns its exit code.
async fn other(context: &Context, command: Command) -> Result<u8, CliError> {
    match command {
        Command::Run(args) => return run::run(context, args).await,
        Command::Diagnose(args) => return diagnose::diagnose(context, args).await,
        Command::Doctor(args) => return doctor::doctor(context, args).await,
        Command::Template(command) => return templates::template(context, command).await,
        Command::Stop(args) => stop::stop(context, args).await?,
        Command::Status(args) => status::status(context, &args).await?,
        Command::Events(args) => events::events(context, &args).await?,
        Command::Lease(args) => leases::lease(context, args).await?,
        Command::Renew(args) => leases::renew(context, &args).await?,
        Command::Reset(args) => leases::reset(context, &args).await?,
        Command::Keep(args) => leases::keep(context, &args).await?,
        Command::Release(args) => leases::release(context, &args).await?,
        Command::Psql(args) => psql::psql(context, args).await?,
        Command::Runs(args) => runs::runs(context, &args).await?,
        Command::Pool(command) => pools::pool(context, command).await?,
        Command::Config(args) => configuration::show(context, args)?,
        Command::Purge(args) => purge::purge(context, args).await?,
        Command::Completions(args) => completions::print(context, args.shell)?,
        Command::Serve(_) | Command::Healthcheck(_) => {}
    }
    Ok(0)
}

/// Runs a command on a runtime of one thread.
fn one_task<T>(task: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    runtime(&mut Builder::new_current_thread())?.block_on(task)
}
