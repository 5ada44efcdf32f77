//! The runtime that a command runs on.

use tokio::runtime::{Builder, Runtime};

use super::error::CliError;

/// Builds it with timers and sockets.
///
/// # Errors
/// The system refuses a thread or a descriptor.
pub(super) fn runtime(builder: &mut Builder) -> Result<Runtime, CliError> {
    builder.enable_all().build().map_err(|error| CliError::failed(format!("cannot start: {error}")))
}
