//! `pgdibs serve`: loads the configuration and runs the daemon.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::args::ServeArgs;
use super::context::Context;
use super::error::CliError;
use super::output::message;
use super::runtime::runtime;
use pgdibs_server::daemon::AutoShutdown;

/// Runs the daemon until it stops. Its later errors are in its exit code and log.
///
/// # Errors
/// The configuration is wrong.
pub(super) fn serve(context: &Context, args: ServeArgs) -> Result<ExitCode, CliError> {
    let loaded = context.load(args.flags)?;
    for warning in &loaded.warnings {
        message(&format!("warning: {warning}"));
    }
    let mut auto_shutdown =
        AutoShutdown { when_idle: args.end_when_idle.map(Duration::from_secs), when_abandoned: None };
    if args.end_with_stdin {
        let abandoned = auto_shutdown.when_abandoned.insert(CancellationToken::new()).clone();
        std::thread::spawn(move || {
            wait_for_end_of_stdin();
            abandoned.cancel();
        });
    }
    Ok(runtime(&mut Builder::new_multi_thread())?.block_on(pgdibs_server::daemon::serve(loaded.config, auto_shutdown)))
}

/// The process that started this one holds the other end of standard input, which closes when that process exits, however it exits.
fn wait_for_end_of_stdin() {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = [0; 256];
    while let Ok(1..) = stdin.read(&mut buffer) {}
}
