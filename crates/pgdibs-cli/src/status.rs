//! `pgdibs status`, once or every second.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;

use super::args::StatusArgs;
use super::context::Context;
use super::error::CliError;
use super::render::status_screen;
use pgdibs::Client;
use pgdibs::api::status::Status;

/// The interval of `--watch`.
const EVERY: Duration = Duration::from_secs(1);

/// Shows the status.
///
/// # Errors
/// The daemon does not answer; with `--watch` on a terminal, the screen shows that error until it does.
pub(super) async fn status(context: &Context, args: &StatusArgs) -> Result<(), CliError> {
    let client = context.client()?;
    if !args.watch {
        return context.output.text(&screen(context, &client).await?);
    }
    let redraw = std::io::stdout().is_terminal() && !context.output.is_json();
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let shown = match screen(context, &client).await {
            Err(CliError::Failure { message, .. }) if redraw => format!("{message}\n"),
            shown => shown?,
        };
        match redraw {
            true => context.output.text(&format!("\x1b[H\x1b[2J{shown}"))?,
            false if context.output.is_json() => context.output.text(&shown)?,
            false => context.output.text(&format!("{shown}\n\n"))?,
        }
    }
}

async fn screen(context: &Context, client: &Client) -> Result<String, CliError> {
    let answer = client.get("/v1/status").await?;
    if context.output.is_json() {
        return Ok(format!("{}\n", answer.value()?));
    }
    let status: Status = answer.json()?;
    Ok(status_screen(&status, client.url(), Timestamp::now(), context.output.colour))
}
