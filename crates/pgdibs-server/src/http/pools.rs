//! Pools over HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::PoolName;
use pgdibs_core::snapshot::Snapshot;
use serde_json::json;

use super::app::Up;
use super::extract::{PoolBody, PoolDropQuery, pool_in_path};
use super::json::{OptionalJsonBody, PathParams, QueryParams};
use super::pool_responses::PoolOut;
use super::problem::Problem;

/// `GET /v1/pools`.
pub(super) async fn list<W: Backend + 'static>(Up(service): Up<W>) -> Result<Response, Problem> {
    let snapshot = service.backend.gather().await?;
    let pools: Vec<PoolOut> = snapshot.pools.iter().map(|pool| PoolOut::new(pool, &snapshot)).collect();
    Ok(Json(json!({"pools": pools})).into_response())
}

/// `GET /v1/pools/{pool}`.
pub(super) async fn show<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(pool): PathParams<String>,
) -> Result<Json<PoolOut>, Problem> {
    let pool = pool_in_path(&pool)?;
    found(&service.backend.gather().await?, &pool).map(Json)
}

/// `PUT /v1/pools/{pool}`.
pub(super) async fn put<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(pool): PathParams<String>,
    OptionalJsonBody(body): OptionalJsonBody<PoolBody>,
) -> Result<Response, Problem> {
    let pool = pool_in_path(&pool)?;
    let (_, made) = service.backend.put_pool(&pool, &body.patch()).await?;
    service.wait_queue.wake_reconciler();
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    let answer = found(&service.backend.gather().await?, &pool)?;
    Ok((status, Json(answer)).into_response())
}

/// `DELETE /v1/pools/{pool}`.
pub(super) async fn delete<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(pool): PathParams<String>,
    QueryParams(query): QueryParams<PoolDropQuery>,
) -> Result<StatusCode, Problem> {
    service.backend.drop_pool(&pool_in_path(&pool)?, query.force).await?;
    service.wait_queue.wake_reconciler();
    service.wait_queue.wake_all();
    Ok(StatusCode::NO_CONTENT)
}

fn found(snapshot: &Snapshot, name: &PoolName) -> Result<PoolOut, Problem> {
    match snapshot.pools.iter().find(|pool| &pool.name == name) {
        Some(pool) => Ok(PoolOut::new(pool, snapshot)),
        None => Err(Error::PoolNotFound(name.to_string()).into()),
    }
}
