//! `GET /openapi.json`: the document that `openapi/tests/generate.rs` makes of the handlers and of `pgdibs-api`.

#[cfg(test)]
mod tests;

use axum::http::header;
use axum::response::IntoResponse;

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", responses(
    (status = 200, description = "This document.", body = Object),
))]
pub(super) async fn show() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("../../../../api/openapi.json"))
}
