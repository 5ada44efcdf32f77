//! `pgdibs events`: what happened, and with `--follow` what happens, one line for each event.

use std::time::Duration;

use super::args::EventsArgs;
use super::context::Context;
use super::error::CliError;
use super::output::message;
use pgdibs::api::event::Event;
use pgdibs::{Client, Error, EventStream, StreamedEvent};

/// Between two attempts to reach a daemon that has gone.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows the events.
///
/// # Errors
/// The daemon does not answer, or refuses. With `--follow` only at first: later the command waits until the daemon is back.
pub(super) async fn events(context: &Context, args: &EventsArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let filters = args.pool.iter().map(|pool| ("pool", pool)).chain(args.kind.iter().map(|kind| ("kind", kind)));
    let mut query = format!("follow={}", args.follow);
    for (name, value) in filters {
        query.push_str(&format!("&{name}={}", pgdibs::segment(value)?));
    }
    let mut stream = client.events(&query, None).await?;
    let mut last: Option<String> = None;
    loop {
        match stream.next().await {
            Ok(Some(event)) => {
                show(context, &event)?;
                last = Some(event.id);
            }
            Ok(None) if !args.follow => return Ok(()),
            Err(error) if !args.follow => return Err(error.into()),
            Ok(None) | Err(_) => stream = reconnect(context, &client, &query, last.as_deref()).await?,
        }
    }
}

/// Connects until a daemon answers.
async fn reconnect(
    context: &Context,
    client: &Client,
    query: &str,
    last: Option<&str>,
) -> Result<EventStream, CliError> {
    let mut is_told = false;
    loop {
        tokio::time::sleep(PAUSE).await;
        match client.events(query, last).await {
            Ok(stream) => return Ok(stream),
            Err(Error::Api(error)) if error.retry_after.is_none() => return Err(Error::Api(error).into()),
            Err(error) => {
                if !is_told && !context.output.is_json() {
                    message(&format!("waiting for the daemon: {error}"));
                }
                is_told = true;
            }
        }
    }
}

fn show(context: &Context, event: &StreamedEvent) -> Result<(), CliError> {
    if event.kind == "status" {
        return Ok(());
    }
    if context.output.is_json() {
        return context.output.text(&event.data);
    }
    match event.event() {
        Some(event) => context.output.text(&line(&event)),
        None => context.output.text(&event.kind),
    }
}

/// The line of an event, for people and for grep: time, kind, then what it has as `name=value`.
fn line(event: &Event) -> String {
    let time = event.at.get(..23).unwrap_or(&event.at);
    let mut line = format!("{time}Z {}", event.kind);
    let seconds = event.seconds.map(|seconds| format!("{seconds:.3}"));
    for (name, value) in [
        ("pool", &event.pool),
        ("database", &event.database),
        ("template", &event.template),
        ("run", &event.run),
        ("worker", &event.worker),
        ("holder", &event.holder),
        ("lease", &event.lease),
        ("seconds", &seconds),
        ("reason", &event.reason),
    ] {
        let Some(value) = value else { continue };
        let is_plain = !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '"');
        match is_plain {
            true => line.push_str(&format!(" {name}={value}")),
            false => line.push_str(&format!(" {name}={value:?}")),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_quotes_what_is_not_plain() {
        let data = r#"{"at":"2026-11-30T21:22:08.123456Z","kind":"lease_released","pool":"app","holder":"ci 7\u001b[2J","seconds":0.0042,"reason":"x","new":1}"#;
        let event = StreamedEvent { id: "1-1".to_owned(), kind: "lease_released".to_owned(), data: data.to_owned() };
        assert_eq!(
            line(&event.event().unwrap()),
            r#"2026-11-30T21:22:08.123Z lease_released pool=app holder="ci 7\u{1b}[2J" seconds=0.004 reason=x"#
        );
    }
}
