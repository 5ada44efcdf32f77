//! Runs over HTTP: announce what a test session will need, and end it with everything it holds.

use axum::Json;
use axum::response::{IntoResponse, Response};
use pgdibs_core::request::Announce;
use pgdibs_core::world::World;
use serde_json::json;

use super::app::Up;
use super::asked::{RunBody, run_in_path};
use super::json::{At, Sent};
use super::problem::Problem;

/// `PUT /v1/runs/{run}`.
pub(super) async fn put<W: World + 'static>(
    Up(service): Up<W>,
    At(run): At<String>,
    Sent(body): Sent<RunBody>,
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
    service.bell.wake_driver();
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
pub(super) async fn delete<W: World + 'static>(Up(service): Up<W>, At(run): At<String>) -> Result<Response, Problem> {
    let released = service.world.end_run(&run_in_path(run)?).await?;
    service.bell.wake_driver();
    service.bell.ring();
    Ok(Json(json!({"released": released})).into_response())
}
