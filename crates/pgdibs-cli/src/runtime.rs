//! Builds the runtime of a command.

use tokio::runtime::{Builder, Runtime};

use super::error::CliError;

/// Builds a runtime with timers and sockets.
///
/// # Errors
/// The operating system refuses a thread or a descriptor.
pub(super) fn runtime(builder: &mut Builder) -> Result<Runtime, CliError> {
    builder.enable_all().build().map_err(|error| CliError::failed(format!("cannot start the runtime: {error}")))
}
