//! Pools over HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pgdibs_core::error::Error;
use pgdibs_core::name::PoolName;
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::world::World;
use serde_json::json;

use super::app::Up;
use super::asked::{PoolBody, PoolDropQuery, pool_in_path};
use super::json::{Asked, At, SentOrEmpty};
use super::problem::Problem;
use super::wire_pools::PoolOut;

/// `GET /v1/pools`.
pub(super) async fn list<W: World + 'static>(Up(service): Up<W>) -> Result<Response, Problem> {
    let snapshot = service.world.gather().await?;
    let pools: Vec<PoolOut> = snapshot.pools.iter().map(|pool| PoolOut::new(pool, &snapshot)).collect();
    Ok(Json(json!({"pools": pools})).into_response())
}

/// `GET /v1/pools/{pool}`.
pub(super) async fn show<W: World + 'static>(
    Up(service): Up<W>,
    At(pool): At<String>,
) -> Result<Json<PoolOut>, Problem> {
    let pool = pool_in_path(&pool)?;
    found(&service.world.gather().await?, &pool).map(Json)
}

/// `PUT /v1/pools/{pool}`.
pub(super) async fn put<W: World + 'static>(
    Up(service): Up<W>,
    At(pool): At<String>,
    SentOrEmpty(body): SentOrEmpty<PoolBody>,
) -> Result<Response, Problem> {
    let pool = pool_in_path(&pool)?;
    let (_, made) = service.world.put_pool(&pool, &body.patch()).await?;
    service.bell.wake_driver();
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    let answer = found(&service.world.gather().await?, &pool)?;
    Ok((status, Json(answer)).into_response())
}

/// `DELETE /v1/pools/{pool}`.
pub(super) async fn delete<W: World + 'static>(
    Up(service): Up<W>,
    At(pool): At<String>,
    Asked(query): Asked<PoolDropQuery>,
) -> Result<StatusCode, Problem> {
    service.world.drop_pool(&pool_in_path(&pool)?, query.force).await?;
    service.bell.wake_driver();
    service.bell.ring();
    Ok(StatusCode::NO_CONTENT)
}

fn found(snapshot: &Snapshot, name: &PoolName) -> Result<PoolOut, Problem> {
    match snapshot.pools.iter().find(|pool| &pool.name == name) {
        Some(pool) => Ok(PoolOut::new(pool, snapshot)),
        None => Err(Error::PoolNotFound(name.to_string()).into()),
    }
}
