//! Probes: whether the process serves, and whether it is ready. They need neither a token nor a particular host.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use pgdibs_api::probe::{Alive, Ready};

use super::app::App;
use super::authenticator::Authenticated;

/// The process serves, also before Postgres does and while all connections are taken.
// It says nothing about Postgres, or a kubelet would kill the daemon for a server that is down.
#[utoipa::path(get, path = "/livez", operation_id = "livez", security(()), responses(
    (status = 200, description = "It serves.", body = Alive),
))]
pub(super) async fn live() -> Json<Alive> {
    Json(Alive::default())
}

/// Alias of /livez.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", security(()), responses(
    (status = 200, description = "It serves.", body = Alive),
))]
pub(super) async fn health() -> Json<Alive> {
    live().await
}

/// The server is reachable and every configured template is ready.
// The reason of a failed build carries the last lines of its output; a caller without a token gets the first line of each reason.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", security(()), responses(
    (status = 200, description = "Ready.", body = Ready),
    (status = 503, description = "Not ready, and why.", body = Ready),
))]
pub(super) async fn ready<B>(
    State(app): State<App<B>>,
    Extension(Authenticated(authenticated)): Extension<Authenticated>,
) -> (StatusCode, Json<Ready>) {
    let mut reasons = app.status.unready();
    if !authenticated {
        for reason in &mut reasons {
            reason.truncate(reason.find('\n').unwrap_or(reason.len()));
        }
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let warnings = if authenticated { app.status.delays() } else { Vec::new() };
    (status, Json(Ready { ready: reasons.is_empty(), reasons, warnings }))
}
