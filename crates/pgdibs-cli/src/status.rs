//! `pgdibs status`: once, or with `--watch` as a screen on a terminal and as lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;

use super::args::StatusArgs;
use super::context::Context;
use super::error::CliError;
use super::render::status_screen;
use super::table::plain;
use super::watch::watch;
use pgdibs::api::pool::Pool;
use pgdibs::api::status::Status;
use pgdibs_server::overview::{Level, headline};

/// The interval of `--watch`.
const EVERY: Duration = Duration::from_secs(1);

/// Shows the status.
///
/// # Errors
/// The daemon does not answer; with `--watch` on a terminal, the screen shows that error until it does.
pub(super) async fn status(context: &Context, args: &StatusArgs) -> Result<(), CliError> {
    if !args.watch {
        let client = context.client()?;
        let answer = client.get("/v1/status").await?;
        return context.output.result(&answer.value()?, || match answer.json() {
            Ok(status) => status_screen(&status, client.url(), Timestamp::now(), context.output.colour),
            Err(error) => error.to_string(),
        });
    }
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !is_dumb;
    if is_terminal && !context.output.is_json() { watch(context).await } else { print_changes(context).await }
}

/// Without a terminal: JSON each second, or a line when its text changes.
async fn print_changes(context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let mut ticks = tokio::time::interval(EVERY);
    let mut last = String::new();
    loop {
        ticks.tick().await;
        let answer = client.get("/v1/status").await?;
        if context.output.is_json() {
            context.output.json(&answer.value()?)?;
            continue;
        }
        let line = status_line(&answer.json()?);
        if line != last {
            context.output.text(&line)?;
            last = line;
        }
    }
}

/// `Ready: 3 ready, 2 leased, 1 spare, 0 waiting`.
fn status_line(status: &Status) -> String {
    let sum = |count: fn(&Pool) -> u64| status.pools.iter().map(count).sum::<u64>();
    let headline = headline(status);
    let why = if headline.level == Level::Bad { format!("; {}", headline.why.join("; ")) } else { String::new() };
    let (ready, leased) = (sum(|pool| pool.counts.ready), sum(|pool| pool.counts.leased));
    let (spare, waiting) = (sum(|pool| pool.counts.spare), sum(|pool| pool.counts.waiting));
    plain(&format!("{}: {ready} ready, {leased} leased, {spare} spare, {waiting} waiting{why}", headline.word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgdibs_testing::examples::Example;
    use serde_json::json;

    #[test]
    fn status_line_says_why_nothing_can_be_leased() {
        let counts = json!({"ready": 3, "leased": 2, "spare": 1, "waiting": 0});
        let pool = Example::Pool.with(&json!({"counts": counts, "templates": [], "blocked": []}));
        let line = |fields| status_line(&serde_json::from_value(Example::Status.with(&fields)).unwrap());
        assert_eq!(line(json!({"pools": [pool]})), "Ready: 3 ready, 2 leased, 1 spare, 0 waiting");
        let lost = json!({"pools": [], "server": {"reachable": false, "detail": "connection\nrefused"}});
        assert_eq!(line(lost), "Server lost: 0 ready, 0 leased, 0 spare, 0 waiting; connection refused");
    }
}
