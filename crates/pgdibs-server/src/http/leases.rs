//! Leases over HTTP: acquire, look, renew, reset, keep, release.

use std::collections::HashSet;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pgdibs_core::backend::Backend;
use pgdibs_core::lease::{End, Lease, LeaseId};
use pgdibs_failpoint::{Point, reach};
use serde::Serialize;
use serde_json::json;

use super::app::Up;
use super::extract::{
    AcquireRequest, BatchBody, KeepBody, LeaseBody, LeaseFilter, LeasesQuery, RenewBody, ResetBody, ViaQuery,
    lease_in_path,
};
use super::json::{JsonBody, OptionalJsonBody, PathParams, QueryParams};
use super::problem::Problem;
use super::release_on_disconnect::ReleaseOnDisconnect;
use super::responses::{KeptOut, LeaseOut};
use crate::service::{Address, Service};

/// `POST /v1/leases`.
pub(super) async fn acquire<W: Backend + 'static>(
    Up(service): Up<W>,
    JsonBody(body): JsonBody<LeaseBody>,
) -> Result<Response, Problem> {
    let wait = body.wait();
    granted(&service, vec![body.acquire_request()], wait, false, |mut leases| leases.pop()).await
}

#[derive(Serialize)]
struct Leases {
    leases: Vec<LeaseOut>,
}

/// `POST /v1/leases/batch`: all of them or none.
pub(super) async fn acquire_batch<W: Backend + 'static>(
    Up(service): Up<W>,
    JsonBody(body): JsonBody<BatchBody>,
) -> Result<Response, Problem> {
    let (wait, shares_login) = (body.wait(), body.shares_login());
    granted(&service, body.acquire_requests(), wait, shares_login, |leases| Leases { leases }).await
}

/// Acquires, resets what is to be fresh, and answers in a body that undoes the grant when it cannot be written.
async fn granted<W: Backend + 'static, A: Serialize>(
    service: &Service<W>,
    acquire_requests: Vec<AcquireRequest>,
    wait: Duration,
    shares_login: bool,
    answer: impl FnOnce(Vec<LeaseOut>) -> A,
) -> Result<Response, Problem> {
    let addresses: Vec<Address> = acquire_requests
        .iter()
        .map(|acquire_request| service.address(&acquire_request.via).cloned())
        .collect::<Result<_, _>>()?;
    let fresh: Vec<bool> = acquire_requests.iter().map(|acquire_request| acquire_request.fresh).collect();
    let ids: Vec<LeaseId> = acquire_requests.iter().map(|acquire_request| acquire_request.acquire.id).collect();
    let release = {
        let (service, ids) = (service.clone(), ids.clone());
        ReleaseOnDisconnect::then(move || {
            let tasks = service.tasks.clone();
            tasks.spawn(async move { service.release_requests(&ids).await });
        })
    };
    let grant = match service
        .acquire(acquire_requests.into_iter().map(|acquire_request| acquire_request.acquire).collect(), wait)
        .await
    {
        Ok(grant) => grant,
        Err(error) => {
            release.disarm();
            return Err(error.into());
        }
    };
    let ids: HashSet<LeaseId> = ids.into_iter().collect();
    let mut leases: Vec<Lease> = Vec::with_capacity(grant.leases.len());
    for (lease, fresh) in grant.leases.into_iter().zip(fresh) {
        let held_before = !ids.contains(&lease.id);
        leases.push(if fresh && held_before {
            service.reset(lease.id, None, wait.saturating_sub(grant.waited)).await?
        } else {
            lease
        });
    }
    if shares_login {
        let granted: Vec<LeaseId> = leases.iter().map(|lease| lease.id).collect();
        // When this fails, the guard gives the new leases back with the answer.
        leases = service.backend.share_login(&granted).await?;
    }
    let leases = leases
        .into_iter()
        .zip(&addresses)
        .map(|(lease, address)| LeaseOut::held(lease, address).after(grant.waited))
        .collect();
    let status = if grant.new { StatusCode::CREATED } else { StatusCode::OK };
    release.answer(status, &answer(leases))
}

/// `GET /v1/leases`.
pub(super) async fn list<W: Backend + 'static>(
    Up(service): Up<W>,
    QueryParams(query): QueryParams<LeasesQuery>,
) -> Result<Response, Problem> {
    let mut found = Vec::new();
    if query.state != LeaseFilter::Ended {
        found.extend(service.backend.gather().await?.leases);
    }
    if query.state != LeaseFilter::Live {
        found.extend(service.backend.ended_leases().await?);
    }
    let leases: Vec<LeaseOut> = found
        .into_iter()
        .filter(|lease| query.pool.as_ref().is_none_or(|pool| pool.0 == lease.pool))
        .filter(|lease| query.run.as_ref().is_none_or(|run| Some(&run.0) == lease.run.as_ref()))
        .map(LeaseOut::listed)
        .collect();
    Ok(Json(json!({"leases": leases})).into_response())
}

/// `GET /v1/leases/{id}`.
pub(super) async fn show<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<ViaQuery>,
) -> Result<Json<LeaseOut>, Problem> {
    let address = service.address(query.via())?;
    let lease = service.backend.lease(lease_in_path(&id)?).await?;
    Ok(Json(LeaseOut::held(lease, address)))
}

/// `POST /v1/leases/{id}/renew`.
pub(super) async fn renew<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<ViaQuery>,
    OptionalJsonBody(body): OptionalJsonBody<RenewBody>,
) -> Result<Json<LeaseOut>, Problem> {
    let address = service.address(query.via())?;
    let lease = service.renew(lease_in_path(&id)?, body.ttl_seconds()).await?;
    Ok(Json(LeaseOut::held(lease, address)))
}

/// `POST /v1/leases/{id}/reset`.
pub(super) async fn reset<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<ViaQuery>,
    OptionalJsonBody(body): OptionalJsonBody<ResetBody>,
) -> Result<Json<LeaseOut>, Problem> {
    let address = service.address(query.via())?;
    let lease = service.reset(lease_in_path(&id)?, body.generation(), body.wait()).await?;
    Ok(Json(LeaseOut::held(lease, address)))
}

/// `POST /v1/leases/{id}/keep`.
pub(super) async fn keep<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<ViaQuery>,
    OptionalJsonBody(body): OptionalJsonBody<KeepBody>,
) -> Result<Json<KeptOut>, Problem> {
    let address = service.address(query.via())?;
    let kept = service.backend.keep(lease_in_path(&id)?, body.seconds(), body.reason()).await?;
    Ok(Json(KeptOut::new(&kept, address)))
}

/// `DELETE /v1/leases/{id}`.
pub(super) async fn release<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(id): PathParams<String>,
) -> Result<StatusCode, Problem> {
    if service.backend.end_lease(lease_in_path(&id)?, End::Released, "released by its holder").await? {
        reach(Point::ReleaseAnswering).await;
        service.wait_queue.wake_reconciler();
    }
    Ok(StatusCode::NO_CONTENT)
}
