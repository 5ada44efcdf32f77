//! Probes: whether the process serves, and whether it is ready. They need neither a token nor a particular host.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::app::App;
use super::authenticator::Authenticated;

/// `GET /livez`, `GET /healthz`: says nothing about Postgres, or a kubelet would kill the daemon for a server that is down.
pub(super) async fn live() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// `GET /readyz`. A failed build's reason carries the last lines of its output; who shows no token gets the first line of each.
pub(super) async fn ready<W>(
    State(app): State<App<W>>,
    Extension(Authenticated(admitted)): Extension<Authenticated>,
) -> Response {
    let mut reasons = app.status.unready();
    if !admitted {
        for reason in &mut reasons {
            reason.truncate(reason.find('\n').unwrap_or(reason.len()));
        }
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": reasons.is_empty(), "reasons": reasons}))).into_response()
}
