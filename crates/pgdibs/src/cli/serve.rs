//! `pgdibs serve`: from flags to the daemon.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Builder;

use super::args::ServeArgs;
use super::context::Context;
use super::error::CliError;
use super::output::message;
use super::runtime;

/// Runs the daemon until it ends.
///
/// # Errors
/// When the configuration is wrong; everything later is in the daemon's exit code and log.
pub(super) fn serve(context: &Context, args: ServeArgs) -> Result<ExitCode, CliError> {
    let loaded = context.load(args.flags)?;
    for warning in &loaded.warnings {
        message(&format!("warning: {warning}"));
    }
    let idle = args.end_when_idle.map(Duration::from_secs);
    if args.end_with_stdin {
        std::thread::spawn(end_with_stdin);
    }
    Ok(runtime(&mut Builder::new_multi_thread())?.block_on(crate::daemon::serve(loaded.config, idle)))
}

/// Whoever started us holds the other end of standard input; when it is gone, in whatever way, we end as on SIGTERM.
fn end_with_stdin() {
    let mut stdin = std::io::stdin().lock();
    let mut ignored = [0; 256];
    while let Ok(1..) = stdin.read(&mut ignored) {}
    let _only_fails_for_others = kill(Pid::this(), Signal::SIGTERM);
}
