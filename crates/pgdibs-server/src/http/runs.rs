//! Runs over HTTP: announce what a test session will need, and end it with everything it holds.

#[cfg(test)]
mod tests;

use axum::Json;
use pgdibs_api::bounded::Label;
use pgdibs_api::run::{Run, RunEnded, RunRequest};
use pgdibs_core::backend::Backend;

use super::api_error::ApiError;
use super::extractors::{FromPath, JsonBody, PathParams};
use crate::service::Service;

impl FromPath for Label {
    type Text = String;

    fn from_path(text: String) -> Result<Self, ApiError> {
        Self::new(text).map_err(|rule| ApiError::invalid("run", rule))
    }
}

/// Says what a run will need.
#[utoipa::path(put, path = "/v1/runs/{run}", operation_id = "announceRun", params(("run" = Label, Path)),
    request_body = RunRequest, responses(
    (status = 200, description = "The pool warms up.", body = Run),
))]
pub(super) async fn put<B: Backend + 'static>(
    service: Service<B>,
    PathParams(run): PathParams<Label>,
    JsonBody(body): JsonBody<RunRequest>,
) -> Result<Json<Run>, ApiError> {
    Ok(Json(service.announce(body.announce(run)).await?.into()))
}

/// Ends a run with everything it holds.
#[utoipa::path(delete, path = "/v1/runs/{run}", operation_id = "endRun", params(("run" = Label, Path)), responses(
    (status = 200, description = "How many leases were released.", body = RunEnded),
))]
pub(super) async fn delete<B: Backend + 'static>(
    service: Service<B>,
    PathParams(run): PathParams<Label>,
) -> Result<Json<RunEnded>, ApiError> {
    Ok(Json(RunEnded { released: service.end_run(run.as_str()).await? }))
}
