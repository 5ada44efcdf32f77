//! Probes: whether the process serves, and whether it is ready. They need neither a token nor a particular host.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::app::App;

/// `GET /livez`, `GET /healthz`: says nothing about Postgres, or a kubelet would kill the daemon for a server that is down.
pub(super) async fn live() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// `GET /readyz`.
pub(super) async fn ready<W>(State(app): State<App<W>>) -> Response {
    let reasons = app.status.unready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": reasons.is_empty(), "reasons": reasons}))).into_response()
}
