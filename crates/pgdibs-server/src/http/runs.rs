//! Runs over HTTP: announce what a test session will need, and end it with everything it holds.

use axum::Json;
use axum::response::{IntoResponse, Response};
use pgdibs_core::backend::Backend;
use pgdibs_core::request::Announce;
use serde_json::json;

use super::app::Up;
use super::extract::{RunBody, run_in_path};
use super::json::{JsonBody, PathParams};
use super::problem::Problem;

/// `PUT /v1/runs/{run}`.
pub(super) async fn put<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(run): PathParams<String>,
    JsonBody(body): JsonBody<RunBody>,
) -> Result<Response, Problem> {
    let (workers, aliases) = (body.workers(), body.aliases());
    let announce = Announce {
        run: run_in_path(run)?,
        pool: body.pool.0,
        fingerprint: body.fingerprint.map(|field| field.0),
        workers,
        aliases,
    };
    service.announce(&announce).await?;
    service.wait_queue.wake_reconciler();
    let answer = json!({
        "run": announce.run,
        "pool": announce.pool.as_str(),
        "fingerprint": announce.fingerprint.as_ref().map(pgdibs_core::name::Fingerprint::as_str),
        "workers": workers,
        "aliases": aliases,
    });
    Ok(Json(answer).into_response())
}

/// `DELETE /v1/runs/{run}`.
pub(super) async fn delete<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(run): PathParams<String>,
) -> Result<Response, Problem> {
    let released = service.backend.end_run(&run_in_path(run)?).await?;
    service.wait_queue.wake_reconciler();
    service.wait_queue.wake_all();
    Ok(Json(json!({"released": released})).into_response())
}
