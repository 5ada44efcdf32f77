//! What every response carries: the API level, a request id, `no-store`, `nosniff`, an answer after a panic. And the log line about it.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use pgdibs_api::level::{API_LEVEL, API_LEVEL_HEADER};
use pgdibs_api::problem::Code;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use super::api_error::ApiError;

const REQUEST_ID: &str = "x-request-id";

/// Puts the layers around every route. `RequestBodyLimit` is not among them: it answers in plain text and reads nothing of a body that
/// is too large, so a caller that is still sending sees a broken connection in place of the 413; `extractors.rs` does both.
pub(super) fn wrap(router: Router) -> Router {
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
            tracing::info_span!("request", id, method = %request.method(), path = request.uri().path())
        })
        .on_request(())
        .on_response(log_response)
        .on_body_chunk(())
        .on_eos(())
        .on_failure(());
    let no_store = HeaderValue::from_static("no-store");
    let nosniff = HeaderValue::from_static("nosniff");
    router.layer(
        ServiceBuilder::new()
            .map_request(discard_unsafe_id)
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(trace)
            .layer(PropagateRequestIdLayer::x_request_id())
            // Also on errors and on answers without a token, so that a client knows it from whichever answer it gets first.
            .layer(SetResponseHeaderLayer::overriding(
                HeaderName::from_static(API_LEVEL_HEADER),
                HeaderValue::from(API_LEVEL),
            ))
            // Answers to reads carry credentials as well.
            .layer(SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, no_store))
            .layer(SetResponseHeaderLayer::overriding(header::X_CONTENT_TYPE_OPTIONS, nosniff))
            .layer(CatchPanicLayer::custom(panicked)),
    )
}

fn log_response<B>(response: &Response<B>, latency: Duration, _: &Span) {
    tracing::debug!(status = response.status().as_u16(), seconds = latency.as_secs_f64(), "answered");
}

/// A caller's id is kept when it is short and harmless in a log line.
fn discard_unsafe_id(mut request: Request) -> Request {
    let is_safe = |id: &HeaderValue| {
        (1..=128).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b))
    };
    if !request.headers().get(REQUEST_ID).is_some_and(is_safe) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// A panic in a handler is a bug: the client gets a problem, the log the cause.
fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(cause = text.unwrap_or("(no text)"), "request handler panicked");
    let detail = "the daemon's log says why, under this response's X-Request-Id";
    ApiError::new(Code::Internal, detail).into_response()
}
