//! `pgdibs serve`: from flags to the daemon.

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
use pgdibs_server::daemon::Ending;

/// Runs the daemon until it ends.
///
/// # Errors
/// When the configuration is wrong; everything later is in the daemon's exit code and log.
pub(super) fn serve(context: &Context, args: ServeArgs) -> Result<ExitCode, CliError> {
    let loaded = context.load(args.flags)?;
    for warning in &loaded.warnings {
        message(&format!("warning: {warning}"));
    }
    let mut ending = Ending { when_idle: args.end_when_idle.map(Duration::from_secs), when_abandoned: None };
    if args.end_with_stdin {
        let abandoned = ending.when_abandoned.insert(CancellationToken::new()).clone();
        std::thread::spawn(move || {
            wait_for_the_end_of_stdin();
            abandoned.cancel();
        });
    }
    Ok(runtime(&mut Builder::new_multi_thread())?.block_on(pgdibs_server::daemon::serve(loaded.config, ending)))
}

/// Whoever started us holds the other end of standard input; it is gone when they are, in whatever way.
fn wait_for_the_end_of_stdin() {
    let mut stdin = std::io::stdin().lock();
    let mut ignored = [0; 256];
    while let Ok(1..) = stdin.read(&mut ignored) {}
}
