//! `GET /v1/events`: what happens, as server-sent events.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use hyper::body::Bytes;
use pgdibs_api::event::{EventsQuery, ServerSentEvent};
use pgdibs_api::problem::Code;
use pgdibs_api::time::rfc3339;
use pgdibs_core::backend::Backend;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::api_error::ApiError;
use super::app::App;
use super::extractors::QueryParams;
use super::status;
use super::status_source::StatusSource;
use crate::events::{KEPT, Reader, frame, now};
use crate::service::{Service, WaiterPermit};

/// Between two chunks: the events of a burst share wake-ups and writes.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Proxies close a connection without data, often after a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a browser waits before it connects again.
const RETRY: &str = "retry: 1000\n\n";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What happens, as server-sent events. Without `since` the stream begins now. Where the events since then are not known, it begins with `gap` and `status`.
#[utoipa::path(get, path = "/v1/events", operation_id = "streamEvents", params(EventsQuery), responses(
    (status = 200, description = "The events.", body = ServerSentEvent, content_type = "text/event-stream"),
))]
pub(super) async fn stream<B: Backend + 'static>(
    service: Service<B>,
    State(app): State<App<B>>,
    QueryParams(parameters): QueryParams<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut query = EventsQuery::parse(&parameters).map_err(|(field, rule)| ApiError::invalid(&field, rule))?;
    if let Some(id) = headers.get(LAST_EVENT_ID) {
        query.since = Some(String::from_utf8_lossy(id.as_bytes()).into_owned());
    }
    let permit = service.enter_stream().ok_or_else(|| {
        ApiError::new(Code::ServerUnavailable, "as many streams of events are open as this daemon serves; close one")
    })?;
    let events = service.events();
    let resumed = query.since.as_deref().map(|id| events.reader_after(id));
    let is_missing = matches!(resumed, Some(None));
    let reader = resumed.flatten().unwrap_or_else(|| match query.follow {
        true => events.reader(),
        false => events.reader_of_kept(),
    });
    let stream = EventStream { service, status: app.status, reader, query, due: Instant::now(), _permit: permit };
    let mut first = RETRY.to_owned().into_bytes();
    if is_missing {
        stream.add_gap(&mut first, "the events since that id are not known to this daemon any more").await;
    }
    let frames = unfold((Some(Bytes::from(first)), stream), |(first, mut stream)| async move {
        let chunk = match first {
            Some(first) => first,
            None => stream.next().await?,
        };
        Some((Ok::<_, Infallible>(chunk), (None, stream)))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // For nginx.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// One stream. It is asked for its next chunk when the socket has taken the last one, so a slow caller costs its place in the events alone.
struct EventStream<B> {
    service: Service<B>,
    status: Arc<dyn StatusSource>,
    reader: Reader,
    query: EventsQuery,
    /// Not before this time is the next chunk made.
    due: Instant,
    _permit: WaiterPermit,
}

impl<B: Backend + 'static> EventStream<B> {
    /// The next chunk; `None` at the end: the daemon stops, the caller is too slow, or nothing is left and the stream does not go on.
    async fn next(&mut self) -> Option<Bytes> {
        let stopping = self.service.stopping().clone();
        let keep_alive = Instant::now() + KEEP_ALIVE;
        loop {
            if self.query.follow {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return None,
                    () = self.something() => {}
                    () = sleep_until(keep_alive) => return Some(Bytes::from_static(b": keep-alive\n\n")),
                }
            }
            let Ok(records) = self.reader.take(KEPT) else {
                tracing::debug!("closing a stream of events: its reader is too slow");
                return None;
            };
            let instance = self.service.events().instance();
            let mut chunk = Vec::new();
            for record in &records {
                if record.event().is_some_and(|event| self.query.matches(event)) {
                    chunk.extend_from_slice(&record.frame(instance));
                }
            }
            if let Some(loss) = records.iter().find_map(|record| record.loss()) {
                self.add_gap(&mut chunk, loss.reason()).await;
            }
            self.due = Instant::now() + PAUSE;
            if !chunk.is_empty() {
                return Some(Bytes::from(chunk));
            }
            if records.is_empty() && !self.query.follow {
                return None;
            }
        }
    }

    async fn something(&mut self) {
        sleep_until(self.due).await;
        self.reader.wait().await;
    }

    /// Adds the event `gap`, and the status that holds in place of the missing events.
    async fn add_gap(&self, chunk: &mut Vec<u8>, reason: &str) {
        let id = self.reader.last_id();
        let status = status::current(Some(&self.service), &*self.status).await;
        let gap = json!({"at": rfc3339(now()), "kind": "gap", "reason": reason});
        chunk.extend_from_slice(&frame(&id, "gap", &gap.to_string()));
        chunk.extend_from_slice(&frame(&id, "status", &serde_json::to_string(&status).unwrap_or_default()));
    }
}
