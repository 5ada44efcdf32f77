//! Leases over HTTP: acquire, read, renew, reset, keep, release.

#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::Response;
use pgdibs_api::bounded::{BoundedInteger, Label, Text, WaitSeconds};
use pgdibs_api::lease::{
    AcquireRequest, BatchLease, BatchRequest, KeepRequest, Kept, Lease, LeaseFilter, Leases, LeasesQuery, RenewRequest,
    ResetRequest, ViaQuery,
};
use pgdibs_api::limits::{DEFAULT_ALIAS, DEFAULT_KEEP_SECONDS, DEFAULT_TTL_SECONDS, DEFAULT_VIA, DEFAULT_WAIT};
use pgdibs_api::problem::Code;
use pgdibs_api::time::rfc3339;
use pgdibs_core::backend::Backend;
use pgdibs_core::lease::{self as domain, LeaseId};
use pgdibs_core::name::shown;
use serde::Serialize;

use super::api_error::ApiError;
use super::connection_url::{access, url};
use super::extractors::{FromPath, JsonBody, OptionalJsonBody, PathParams, QueryParams};
use super::release_on_disconnect::ReleaseOnDisconnect;
use crate::service::acquire::LeaseRequest;
use crate::service::{Address, Service};

/// What is not even an id is no lease either.
impl FromPath for LeaseId {
    type Text = String;

    fn from_path(text: String) -> Result<Self, ApiError> {
        Self::parse_str(&text).map_err(|_| {
            let detail = format!("there is no lease \"{}\"; the id of a lease is a UUID", shown(&text));
            ApiError::new(Code::LeaseNotFound, detail)
        })
    }
}

/// The lease as its holder sees it: with credentials, as long as it is live.
fn held(mut lease: domain::Lease, address: &Address) -> Lease {
    let credentials = lease.credentials.take().filter(|_| lease.state == domain::LeaseState::Live);
    let access = credentials.map(|credentials| access(credentials, address, &lease.database_name));
    Lease { access, ..Lease::listed(lease) }
}

/// What the service is to acquire, and the address to hand out.
fn lease_request(lease: BatchLease, exact_slot: bool) -> (LeaseRequest, Option<Label>) {
    let request = LeaseRequest {
        id: LeaseId::now_v7(),
        pool: lease.pool.0,
        fingerprint: lease.fingerprint.map(|fingerprint| fingerprint.0),
        run: lease.run.map(Label::into_string),
        worker: lease.worker.map(Label::into_string),
        alias: lease.alias.map_or_else(|| DEFAULT_ALIAS.to_owned(), Label::into_string),
        holder: lease.holder.unwrap_or_default().into_string(),
        ttl_seconds: lease.ttl_seconds.map_or(DEFAULT_TTL_SECONDS, BoundedInteger::get),
        exact_slot,
        fresh: lease.fresh,
    };
    (request, lease.via)
}

pub(super) fn via(via: Option<&Label>) -> &str {
    via.map_or(DEFAULT_VIA, Label::as_str)
}

pub(super) fn wait(wait: Option<WaitSeconds>) -> Duration {
    wait.map_or(DEFAULT_WAIT, WaitSeconds::get)
}

/// Takes a database, waiting if need be.
#[utoipa::path(post, path = "/v1/leases", operation_id = "acquireLease", request_body = AcquireRequest, responses(
    (status = 200, description = "The same key held it already.", body = Lease),
    (status = 201, description = "Granted.", body = Lease),
))]
pub(super) async fn acquire<B: Backend + 'static>(
    service: Service<B>,
    JsonBody(body): JsonBody<AcquireRequest>,
) -> Result<Response, ApiError> {
    let (lease, wait) = body.into_batch_lease();
    grant(&service, vec![lease_request(lease, false)], wait, false, |mut leases| leases.pop()).await
}

/// Takes all of them or none.
#[utoipa::path(post, path = "/v1/leases/batch", operation_id = "acquireLeases", request_body = BatchRequest, responses(
    (status = 200, description = "Each was held already.", body = Leases),
    (status = 201, description = "Granted.", body = Leases),
))]
pub(super) async fn acquire_batch<B: Backend + 'static>(
    service: Service<B>,
    JsonBody(body): JsonBody<BatchRequest>,
) -> Result<Response, ApiError> {
    let leases = body.leases.into_vec().into_iter();
    let requests = leases.map(|lease| lease_request(lease, body.exact_slot)).collect();
    grant(&service, requests, wait(body.wait_seconds), body.shared_login, |leases| Leases { leases }).await
}

/// Acquires, and answers in a body that undoes the grant when it cannot be written.
async fn grant<B: Backend + 'static, A: Serialize>(
    service: &Service<B>,
    requests: Vec<(LeaseRequest, Option<Label>)>,
    wait: Duration,
    shared_login: bool,
    answer: impl FnOnce(Vec<Lease>) -> A,
) -> Result<Response, ApiError> {
    let (requests, vias): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
    let addresses: Vec<&Address> =
        vias.iter().map(|label| service.address(via(label.as_ref()))).collect::<Result<_, _>>()?;
    let ids = requests.iter().map(|request| request.id).collect();
    let undo = service.clone();
    let release = ReleaseOnDisconnect::then(move || undo.release_on_disconnect(ids));
    let grant = match service.acquire(requests, wait, shared_login).await {
        Ok(grant) => grant,
        Err(error) => {
            release.disarm();
            return Err(error.into());
        }
    };
    let waited_seconds = Some(grant.waited.as_secs_f64());
    let leases = grant.leases.into_iter().zip(addresses);
    let leases = leases.map(|(lease, address)| Lease { waited_seconds, ..held(lease, address) }).collect();
    let status = if grant.new { StatusCode::CREATED } else { StatusCode::OK };
    release.answer(status, &answer(leases))
}

/// Leases without credentials.
#[utoipa::path(get, path = "/v1/leases", operation_id = "listLeases", params(LeasesQuery), responses(
    (status = 200, description = "The leases.", body = Leases),
))]
pub(super) async fn list<B: Backend + 'static>(
    service: Service<B>,
    QueryParams(query): QueryParams<LeasesQuery>,
) -> Result<Json<Leases>, ApiError> {
    let mut found = Vec::new();
    if query.state != LeaseFilter::Ended {
        found.extend(service.snapshot().await?.leases);
    }
    if query.state != LeaseFilter::Live {
        found.extend(service.ended_leases().await?);
    }
    found.retain(|lease| query.pool.as_ref().is_none_or(|pool| pool.0 == lease.pool));
    found.retain(|lease| query.run.as_ref().is_none_or(|run| Some(run.as_str()) == lease.run.as_deref()));
    Ok(Json(Leases { leases: found.into_iter().map(Lease::listed).collect() }))
}

/// One lease, live or remembered.
#[utoipa::path(get, path = "/v1/leases/{id}", operation_id = "getLease", params(("id" = uuid::Uuid, Path), ViaQuery), responses(
    (status = 200, description = "The lease.", body = Lease),
))]
pub(super) async fn show<B: Backend + 'static>(
    service: Service<B>,
    PathParams(id): PathParams<LeaseId>,
    QueryParams(query): QueryParams<ViaQuery>,
) -> Result<Json<Lease>, ApiError> {
    let address = service.address(via(query.via.as_ref()))?;
    Ok(Json(held(service.lease(id).await?, address)))
}

/// Renews a lease.
#[utoipa::path(post, path = "/v1/leases/{id}/renew", operation_id = "renewLease", params(("id" = uuid::Uuid, Path), ViaQuery),
    request_body = Option<RenewRequest>, responses(
    (status = 200, description = "The lease.", body = Lease),
))]
pub(super) async fn renew<B: Backend + 'static>(
    service: Service<B>,
    PathParams(id): PathParams<LeaseId>,
    QueryParams(query): QueryParams<ViaQuery>,
    OptionalJsonBody(body): OptionalJsonBody<RenewRequest>,
) -> Result<Json<Lease>, ApiError> {
    let address = service.address(via(query.via.as_ref()))?;
    let lease = service.renew(id, body.ttl_seconds.map(BoundedInteger::get)).await?;
    Ok(Json(held(lease, address)))
}

/// Brings a clean database behind the same URL.
#[utoipa::path(post, path = "/v1/leases/{id}/reset", operation_id = "resetLease", params(("id" = uuid::Uuid, Path), ViaQuery),
    request_body = Option<ResetRequest>, responses(
    (status = 200, description = "The lease.", body = Lease),
))]
pub(super) async fn reset<B: Backend + 'static>(
    service: Service<B>,
    PathParams(id): PathParams<LeaseId>,
    QueryParams(query): QueryParams<ViaQuery>,
    OptionalJsonBody(body): OptionalJsonBody<ResetRequest>,
) -> Result<Json<Lease>, ApiError> {
    let address = service.address(via(query.via.as_ref()))?;
    let lease = service.reset(id, body.generation.map(BoundedInteger::as_u32), wait(body.wait_seconds)).await?;
    Ok(Json(held(lease, address)))
}

/// Keeps the database as it is when it leaves its slot.
#[utoipa::path(post, path = "/v1/leases/{id}/keep", operation_id = "keepDatabase", params(("id" = uuid::Uuid, Path), ViaQuery),
    request_body = Option<KeepRequest>, responses(
    (status = 200, description = "Where it will be.", body = Kept),
))]
pub(super) async fn keep<B: Backend + 'static>(
    service: Service<B>,
    PathParams(id): PathParams<LeaseId>,
    QueryParams(query): QueryParams<ViaQuery>,
    OptionalJsonBody(body): OptionalJsonBody<KeepRequest>,
) -> Result<Json<Kept>, ApiError> {
    let address = service.address(via(query.via.as_ref()))?;
    let seconds = body.seconds.map_or(DEFAULT_KEEP_SECONDS, BoundedInteger::get);
    let kept = service.keep(id, seconds, body.reason.as_ref().map_or("", Text::as_str)).await?;
    Ok(Json(Kept {
        kept_database: kept.name.to_string(),
        kept_url: url(&kept.credentials, address, kept.name.as_str()),
        kept_until: rfc3339(kept.until),
    }))
}

/// Gives a database back.
#[utoipa::path(delete, path = "/v1/leases/{id}", operation_id = "releaseLease", params(("id" = uuid::Uuid, Path)), responses(
    (status = 204, description = "It is released."),
))]
pub(super) async fn release<B: Backend + 'static>(
    service: Service<B>,
    PathParams(id): PathParams<LeaseId>,
) -> Result<StatusCode, ApiError> {
    service.release(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
