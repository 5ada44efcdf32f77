//! Runs over HTTP: announce what a test session will need, end it with everything it holds, keep and list what it reports.

#[cfg(test)]
mod tests;

use axum::Json;
use axum::http::StatusCode;
use pgdibs_api::bounded::Label;
use pgdibs_api::run::{Run, RunEnded, RunRequest};
use pgdibs_api::run_report::{ListedRun, RunReportRequest, RunState, Runs, RunsQuery};
use pgdibs_api::time::rfc3339;
use pgdibs_core::backend::Backend;
use pgdibs_core::snapshot::Snapshot;

use super::api_error::ApiError;
use super::extractors::{FromPath, JsonBody, PathParams, QueryParams};
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

/// Keeps what a run says about itself at its end, for each of its pools; of each pool the last 200 reports stay.
#[utoipa::path(post, path = "/v1/runs/{run}/report", operation_id = "reportRun", params(("run" = Label, Path)),
    request_body = RunReportRequest, responses(
    (status = 204, description = "The report is kept."),
))]
pub(super) async fn post_report<B: Backend + 'static>(
    service: Service<B>,
    PathParams(run): PathParams<Label>,
    JsonBody(body): JsonBody<RunReportRequest>,
) -> Result<StatusCode, ApiError> {
    service.report_run(&body.into_run_report(run)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Live runs, and the last ones that reported.
#[utoipa::path(get, path = "/v1/runs", operation_id = "listRuns", params(RunsQuery), responses(
    (status = 200, description = "The runs.", body = Runs),
))]
pub(super) async fn list<B: Backend + 'static>(
    service: Service<B>,
    QueryParams(query): QueryParams<RunsQuery>,
) -> Result<Json<Runs>, ApiError> {
    let pool = query.pool.as_ref().map(|pool| &pool.0);
    let reported = service.reported_runs(pool).await?;
    let mut runs = live(&service.snapshot().await?);
    runs.retain(|run| pool.is_none_or(|pool| run.pool == pool.as_str()));
    for report in reported.into_iter().map(ListedRun::reported) {
        // One that has reported may have leases for some moments.
        match runs
            .iter_mut()
            .find(|run| run.state == RunState::Live && (&run.run, &run.pool) == (&report.run, &report.pool))
        {
            Some(live) => {
                let ListedRun { holder, reported_at, seconds, workers, .. } = report;
                *live = ListedRun { holder, reported_at, seconds, workers, ..live.clone() };
            }
            None => runs.push(report),
        }
    }
    Ok(Json(Runs { runs }))
}

/// The runs that have leases or are announced, one for each of their pools.
fn live(snapshot: &Snapshot) -> Vec<ListedRun> {
    let mut runs: Vec<ListedRun> = Vec::new();
    for lease in &snapshot.leases {
        let Some(name) = &lease.run else { continue };
        let known = runs.iter_mut().find(|run| &run.run == name && run.pool == lease.pool.as_str());
        let acquired_at = rfc3339(lease.acquired_at);
        if let Some(run) = known {
            run.held += 1;
            run.started_at = run.started_at.take().map(|at| at.min(acquired_at));
        } else {
            let run = ListedRun::live(name.clone(), lease.pool.to_string(), lease.holder.clone());
            runs.push(ListedRun { held: 1, started_at: Some(acquired_at), ..run });
        }
    }
    for announced in &snapshot.runs {
        if !runs.iter().any(|run| run.run == announced.run && run.pool == announced.pool.as_str()) {
            runs.push(ListedRun::live(announced.run.clone(), announced.pool.to_string(), String::new()));
        }
    }
    runs
}
