//! Events between the daemons of a server: this one's go out in batches, as notifications, and those of the others come in as such.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pgdibs_api::event::Event;
use pgdibs_postgres::backend::PgBackend;
use serde::Deserialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::events::{Events, KEPT, Loss};

/// Between two notifications: at most ten a second. Each of them costs the server a commit.
const INTERVAL: Duration = Duration::from_millis(100);

/// How often a daemon without others looks for some, while something happens.
const ALONE: Duration = Duration::from_secs(1);

/// A payload has fewer than 8000 bytes; `false` is a byte longer than `true`.
const LARGEST: usize = 7990;

/// A notification.
#[derive(Debug, Deserialize)]
struct Batch {
    /// The instance of its daemon.
    daemon: i32,
    /// Whether events before these were lost.
    lost: bool,
    events: Vec<Event>,
}

/// Sends the events of this daemon until `stopping`. While no other daemon lives it sends nothing.
pub(super) async fn send(backend: Arc<PgBackend>, events: Arc<Events>, stopping: CancellationToken) {
    let sending = async {
        let mut reader = events.reader();
        let mut outbox = Outbox::new(backend.instance());
        loop {
            if outbox.is_empty() {
                reader.wait().await;
            }
            sleep(INTERVAL).await;
            match backend.has_others().await {
                Ok(true) => {}
                Ok(false) => {
                    (reader, outbox) = (events.reader(), Outbox::new(backend.instance()));
                    sleep(ALONE).await;
                    continue;
                }
                // What happens in an outage is sent after it.
                Err(_) => continue,
            }
            if outbox.is_empty() {
                match reader.take(KEPT) {
                    Ok(records) => outbox.extend(records.iter().filter_map(|record| record.to_relay())),
                    Err(_) => {
                        // The newest say more than the oldest.
                        reader = events.reader();
                        outbox.lost = true;
                    }
                }
            }
            if let Some(payload) = outbox.next()
                && let Err(error) = backend.notify_events(&payload).await
            {
                tracing::debug!(%error, "cannot send events to the other daemons");
                outbox.lost = true;
            }
        }
    };
    stopping.run_until_cancelled(sending).await;
}

/// Events on their way out, as JSON.
#[derive(Debug)]
struct Outbox {
    daemon: i32,
    waiting: VecDeque<String>,
    lost: bool,
}

impl Outbox {
    fn new(daemon: i32) -> Self {
        Self { daemon, waiting: VecDeque::new(), lost: false }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.lost
    }

    fn extend<'a>(&mut self, events: impl Iterator<Item = &'a Event>) {
        let room = LARGEST - self.envelope("").len();
        for event in events {
            let text = |event: &Event| serde_json::to_string(event).unwrap_or_default();
            let mut json = text(event);
            if json.len() > room {
                // Control characters take six bytes each.
                json = text(&Event { reason: None, holder: None, ..event.clone() });
            }
            if json.len() > room {
                self.lost = true;
            } else {
                self.waiting.push_back(json);
            }
        }
    }

    fn envelope(&self, events: &str) -> String {
        format!(r#"{{"daemon":{},"lost":{},"events":[{events}]}}"#, self.daemon, self.lost)
    }

    /// The next payload: as many events as fit.
    fn next(&mut self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let room = LARGEST - self.envelope("").len();
        let mut batch = String::new();
        while let Some(json) = self.waiting.front()
            && batch.len() + json.len() + usize::from(!batch.is_empty()) <= room
        {
            if !batch.is_empty() {
                batch.push(',');
            }
            batch.push_str(json);
            self.waiting.pop_front();
        }
        let payload = self.envelope(&batch);
        self.lost = false;
        Some(payload)
    }
}

/// Takes in a notification. Its sender may have another version.
pub(super) fn receive(events: &Events, payload: &str) {
    match serde_json::from_str::<Batch>(payload) {
        Ok(batch) if batch.daemon == events.instance() => {}
        Ok(batch) => {
            if batch.lost {
                events.receive_loss(Loss::TooMany);
            }
            batch.events.into_iter().for_each(|event| events.receive(event));
        }
        Err(error) => tracing::debug!(%error, "cannot read the events of another daemon"),
    }
}

#[cfg(test)]
mod tests {
    use pgdibs_core::event::{self, EventKind};
    use pgdibs_core::template::Timestamp;

    use super::*;

    fn event(number: usize, reason: &str) -> Event {
        let event = event::Event::new(EventKind::RunAdmitted).with_run(&number.to_string()).because(reason);
        Event::new(&event, Timestamp(0), 2_147_483_647)
    }

    #[test]
    fn events_go_through_payloads_that_postgres_takes() {
        let mut outbox = Outbox::new(2_147_483_647);
        let sent: Vec<Event> =
            (0..300).map(|number| event(number, if number % 50 == 0 { "why" } else { "" })).collect();
        outbox.extend(sent.iter());
        outbox.lost = true;
        let payloads: Vec<String> = std::iter::from_fn(|| outbox.next()).collect();
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        assert!(payloads.len() < 8, "they are filled: {}", payloads.len());
        let events = Events::of(1);
        payloads.iter().for_each(|payload| receive(&events, payload));
        let kept = events.kept();
        assert_eq!(kept[0].loss(), Some(Loss::TooMany), "the loss comes first");
        let runs: Vec<_> = kept[1..].iter().map(|record| record.event().unwrap().run.clone().unwrap()).collect();
        assert_eq!(runs, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn event_too_large_for_a_payload_goes_without_its_texts_or_counts_as_lost() {
        let mut outbox = Outbox::new(1);
        let escaped = "\u{1}".repeat(2000);
        outbox.extend([Event { holder: Some(escaped.clone()), ..event(1, "x") }].iter());
        assert!(outbox.next().unwrap().contains(r#""run":"1""#));
        outbox.extend([Event { run: Some(escaped), ..event(2, "x") }].iter());
        assert_eq!(outbox.next().unwrap(), r#"{"daemon":1,"lost":true,"events":[]}"#);
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn own_and_unreadable_notifications_are_ignored() {
        let events = Events::of(1);
        let mut outbox = Outbox::new(1);
        outbox.extend([event(1, "x")].iter());
        receive(&events, &outbox.next().unwrap());
        for payload in ["", "{}", "7", "[1]", r#"{"daemon":2,"lost":false,"events":[{"at":1}]}"#] {
            receive(&events, payload);
        }
        assert!(events.kept().is_empty());
    }
}
