//! `pgdibs healthcheck`: one line and an exit code about the daemon.

use super::args::HealthcheckArgs;
use super::context::Context;
use super::error::CliError;

/// Calls `/livez` or `/readyz`.
///
/// # Errors
/// The daemon does not answer or is not ready.
pub(super) async fn healthcheck(context: &Context, args: &HealthcheckArgs) -> Result<u8, CliError> {
    let client = context.client()?;
    let (path, state) = match args.ready {
        true => ("/readyz", "is ready"),
        false => ("/livez", "is live"),
    };
    let answer = client.get(path).await?;
    context.output.result(&answer.value()?, || format!("the daemon at {} {state}", client.url()))?;
    Ok(0)
}
