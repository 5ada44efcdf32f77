//! `pgdibs healthcheck`: one line and an exit code about the daemon.

use std::time::Duration;

use super::args::HealthcheckArgs;
use super::context::Context;
use super::error::CliError;
use super::table::plain;
use pgdibs::api::probe::Ready;

/// A daemon answers probes within milliseconds, also when its server is down. One that does not is stopped (SIGSTOP) or unreachable.
const DEADLINE: Duration = Duration::from_secs(5);

/// Calls `/livez` or `/readyz`.
///
/// # Errors
/// The daemon does not answer or is not ready.
pub(super) async fn healthcheck(context: &Context, args: &HealthcheckArgs) -> Result<u8, CliError> {
    let client = context.client_with_timeout(Some(DEADLINE))?;
    let (path, state) = match args.ready {
        true => ("/readyz", "is ready"),
        false => ("/livez", "is live"),
    };
    let answer = client.get(path).await?;
    let warnings = if args.ready { answer.json::<Ready>()?.warnings } else { Vec::new() };
    let lines = || {
        let warnings = warnings.iter().map(|warning| format!("\nwarning: {}", plain(warning)));
        format!("the daemon at {} {state}{}", client.url(), warnings.collect::<String>())
    };
    context.output.result(&answer.value()?, lines)?;
    Ok(0)
}
