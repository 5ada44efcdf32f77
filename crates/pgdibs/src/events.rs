//! The daemon's events as they happen: a reader of server-sent events.

use std::time::Duration;

use pgdibs_api::event::Event;
use tokio::time::timeout;

use crate::client::Client;
use crate::error::{Error, innermost};

/// The daemon sends something every 15 s; after a longer silence the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// One event of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamedEvent {
    /// Its id, from which a later stream can go on.
    pub id: String,
    /// Its kind: one of the API, or `gap` or `status`.
    pub kind: String,
    /// Its JSON: an [`Event`], or for `status` a status.
    pub data: String,
}

impl StreamedEvent {
    /// The event; `None` when the data has another shape.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        serde_json::from_str(&self.data).ok()
    }
}

/// A stream of events; [`Client::events`] opens it.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    received: Received,
}

impl Client {
    /// Opens `GET /v1/events`. `query` is that of the API (`pool=myapp_test&kind=lease_granted`), `last` the id after which it goes on.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn events(&self, query: &str, last: Option<&str>) -> Result<EventStream, Error> {
        let response = self.open("/v1/events", query, last).await?;
        Ok(EventStream { response, received: Received::default() })
    }
}

impl EventStream {
    /// The next event; `None` when the daemon has ended the stream.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] when the connection has died.
    pub async fn next(&mut self) -> Result<Option<StreamedEvent>, Error> {
        loop {
            if let Some(event) = self.received.next_event() {
                return Ok(Some(event));
            }
            let answer = timeout(SILENCE, self.response.chunk()).await;
            let reason = match answer {
                Ok(Ok(Some(chunk))) => {
                    self.received.buffer.extend_from_slice(&chunk);
                    continue;
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => innermost(&error),
                Err(_) => format!("nothing came for {} s", SILENCE.as_secs()),
            };
            return Err(Error::NoAnswer {
                url: self.response.url().origin().ascii_serialization(),
                method: reqwest::Method::GET,
                path: "/v1/events".to_owned(),
                reason,
            });
        }
    }
}

/// What has been received and not read yet. The daemon ends lines with `\n`.
#[derive(Debug, Default)]
struct Received {
    buffer: Vec<u8>,
}

impl Received {
    /// The next block that is an event; comments and other blocks are passed over.
    fn next_event(&mut self) -> Option<StreamedEvent> {
        loop {
            let end = self.buffer.windows(2).position(|two| two == b"\n\n")?;
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(kind), Some(data)) = (field("event: "), field("data: ")) {
                let id = field("id: ").unwrap_or_default().to_owned();
                return Some(StreamedEvent { id, kind: kind.to_owned(), data: data.to_owned() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_from_pieces() {
        let text = "retry: 1000\n\nid: 7-1\nevent: run_ended\ndata: {\"a\":1}\n\n: keep-alive\n\nid: 7-2\nevent: gap\ndata: {}\n\n";
        let mut received = Received::default();
        let mut found = Vec::new();
        for byte in text.bytes() {
            received.buffer.push(byte);
            while let Some(event) = received.next_event() {
                found.push((event.id, event.kind, event.data));
            }
        }
        let owned = |id: &str, kind: &str, data: &str| (id.to_owned(), kind.to_owned(), data.to_owned());
        assert_eq!(found, [owned("7-1", "run_ended", "{\"a\":1}"), owned("7-2", "gap", "{}")]);
        assert!(received.buffer.is_empty());
    }
}
