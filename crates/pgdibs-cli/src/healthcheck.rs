//! `pgdibs healthcheck`: one line, and an exit code for whoever watches over the daemon.

use super::answer::Answer as _;
use super::args::HealthcheckArgs;
use super::context::Context;
use super::error::CliError;

/// Asks a probe.
///
/// # Errors
/// When the daemon is not well, with the reason.
pub(super) async fn healthcheck(context: &Context, args: &HealthcheckArgs) -> Result<u8, CliError> {
    let client = context.client()?;
    let (path, well) = match args.ready {
        true => ("/readyz", "is ready"),
        false => ("/livez", "is live"),
    };
    let answer = client.get(path).await?;
    context.output.result(&answer.body(), || format!("the daemon at {} {well}", client.url()))?;
    Ok(0)
}
