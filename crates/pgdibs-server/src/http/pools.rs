//! Pools over HTTP.

#[cfg(test)]
mod tests;

use axum::Json;
use axum::http::StatusCode;
use pgdibs_api::bounded::PoolField;
use pgdibs_api::pool::{DropPoolQuery, Pool, PoolRequest, Pools};
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::PoolName;
use pgdibs_core::snapshot::Snapshot;

use super::api_error::ApiError;
use super::extractors::{OptionalJsonBody, PathParams, QueryParams};
use crate::service::Service;

/// Every pool.
#[utoipa::path(get, path = "/v1/pools", operation_id = "listPools", responses(
    (status = 200, description = "The pools.", body = Pools),
))]
pub(super) async fn list<B: Backend + 'static>(service: Service<B>) -> Result<Json<Pools>, ApiError> {
    Ok(Json(Pools { pools: all(&service.snapshot().await?) }))
}

/// One pool.
#[utoipa::path(get, path = "/v1/pools/{pool}", operation_id = "getPool", params(("pool" = PoolField, Path)), responses(
    (status = 200, description = "The pool.", body = Pool),
))]
pub(super) async fn show<B: Backend + 'static>(
    service: Service<B>,
    PathParams(pool): PathParams<PoolName>,
) -> Result<Json<Pool>, ApiError> {
    find(&service.snapshot().await?, &pool).map(Json)
}

/// Makes a pool or changes its settings.
#[utoipa::path(put, path = "/v1/pools/{pool}", operation_id = "putPool", params(("pool" = PoolField, Path)),
    request_body = Option<PoolRequest>, responses(
    (status = 200, description = "The pool existed; it has the given settings now.", body = Pool),
    (status = 201, description = "It was made.", body = Pool),
))]
pub(super) async fn put<B: Backend + 'static>(
    service: Service<B>,
    PathParams(pool): PathParams<PoolName>,
    OptionalJsonBody(body): OptionalJsonBody<PoolRequest>,
) -> Result<(StatusCode, Json<Pool>), ApiError> {
    let made = service.put_pool(&pool, &body.into()).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(find(&service.snapshot().await?, &pool)?)))
}

/// Drops a pool.
#[utoipa::path(delete, path = "/v1/pools/{pool}", operation_id = "deletePool",
    params(("pool" = PoolField, Path), DropPoolQuery), responses(
    (status = 204, description = "The pool is being dropped."),
))]
pub(super) async fn delete<B: Backend + 'static>(
    service: Service<B>,
    PathParams(pool): PathParams<PoolName>,
    QueryParams(query): QueryParams<DropPoolQuery>,
) -> Result<StatusCode, ApiError> {
    service.drop_pool(&pool, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn find(snapshot: &Snapshot, name: &PoolName) -> Result<Pool, ApiError> {
    match snapshot.pools.iter().find(|pool| &pool.name == name) {
        Some(pool) => Ok(Pool::new(pool, snapshot)),
        None => Err(Error::pool_not_found(name).into()),
    }
}

/// All pools of a snapshot.
pub(super) fn all(snapshot: &Snapshot) -> Vec<Pool> {
    snapshot.pools.iter().map(|pool| Pool::new(pool, snapshot)).collect()
}
