//! `pgdibs status`, once or every second.

use super::answer::Answer as _;
use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;

use super::args::StatusArgs;
use super::context::Context;
use super::error::CliError;
use super::render::status_screen;
use pgdibs::Client;
use pgdibs::api::status::Status;

/// Between two screens of `--watch`.
const EVERY: Duration = Duration::from_secs(1);

/// Shows the status.
///
/// # Errors
/// When the daemon cannot be asked; with `--watch` on a terminal that is shown instead, until it can.
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
            Err(CliError::Told { sentence, .. }) if redraw => format!("{sentence}\n"),
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
        return Ok(format!("{}\n", answer.body()));
    }
    let status: Status = answer.read()?;
    Ok(status_screen(&status, client.url(), Timestamp::now(), context.output.colour))
}
