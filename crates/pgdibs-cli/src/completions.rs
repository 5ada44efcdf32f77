//! `pgdibs completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::context::Context;
use super::error::CliError;

/// Prints the completion script of a shell.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn print(context: &Context, shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pgdibs", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))
}
