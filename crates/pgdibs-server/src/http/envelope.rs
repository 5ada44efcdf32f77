//! The envelope: what every response carries (a request id, `no-store`), and what becomes of a panic.

use std::any::Any;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::problem::{Code, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn wrap(request: Request, next: Next) -> Response {
    let id = sent_id(request.headers()).unwrap_or_else(new_id);
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    async move {
        let began = Instant::now();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let mut response = next.run(request).await;
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        // Credentials travel in answers to reads as well.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        tracing::debug!(%method, path, status = response.status().as_u16(), seconds = began.elapsed().as_secs_f64(), "answered");
        response
    }
    .instrument(span)
    .await
}

/// The caller's id when it is short and harmless in a log line.
fn sent_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let sent = headers.get(REQUEST_ID)?;
    let sane = (1..=128).contains(&sent.len())
        && sent.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b));
    sane.then(|| sent.clone())
}

fn new_id() -> HeaderValue {
    HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// A panic in a handler is a bug of ours: the client gets a problem, the log the cause.
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let said = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("(no text)");
    tracing::error!(cause = said, "a request handler panicked");
    Problem::new(Code::Internal, "the daemon's log says why, under this response's X-Request-Id").into_response()
}
