//! Pools over HTTP.

#[cfg(test)]
mod tests;

use axum::Json;
use axum::http::StatusCode;
use pgdibs_api::bounded::PoolField;
use pgdibs_api::pool::{Blocked, Counts, DropPoolQuery, Pool, PoolRequest, Pools};
use pgdibs_api::template::Template;
use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::Error;
use pgdibs_core::name::PoolName;
use pgdibs_core::pool as domain;
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
    (status = 200, description = "It was there.", body = Pool),
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
    (status = 204, description = "It goes."),
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
        Some(pool) => Ok(response(pool, snapshot)),
        None => Err(Error::PoolNotFound(name.to_string()).into()),
    }
}

/// All pools of a snapshot.
pub(super) fn all(snapshot: &Snapshot) -> Vec<Pool> {
    snapshot.pools.iter().map(|pool| response(pool, snapshot)).collect()
}

fn response(pool: &domain::Pool, snapshot: &Snapshot) -> Pool {
    let settings = &pool.settings;
    let blocked = snapshot
        .databases
        .iter()
        .filter(|database| database.pool == pool.name && database.state == DatabaseState::Blocked);
    Pool {
        pool: pool.name.to_string(),
        warm: settings.warm,
        max: settings.max,
        spares: settings.spares,
        owner: settings.owner.to_string(),
        strategy: settings.strategy.into(),
        extensions: settings.extensions.clone(),
        roles: settings.roles.iter().map(ToString::to_string).collect(),
        keep_templates: settings.keep_templates,
        template_max_age_seconds: settings.template_max_age_seconds,
        login: settings.login.into(),
        connection_limit: settings.connection_limit,
        sourced: pool.sourced,
        dropping: pool.dropping,
        counts: counts(pool, snapshot),
        longest_wait_seconds: longest_wait(pool, snapshot),
        templates: snapshot.templates.iter().filter(|t| t.pool == pool.name).map(Template::from).collect(),
        blocked: blocked
            .map(|database| Blocked {
                database: database.name.to_string(),
                reason: database.reason.clone(),
                attempts: database.attempts,
                last_error: database.last_error.clone(),
            })
            .collect(),
    }
}

pub(super) fn counts(pool: &domain::Pool, snapshot: &Snapshot) -> Counts {
    let mut counts = Counts::default();
    for database in snapshot.databases.iter().filter(|database| database.pool == pool.name) {
        *match database.state {
            DatabaseState::Ready => &mut counts.ready,
            DatabaseState::Leased => &mut counts.leased,
            DatabaseState::Spare => &mut counts.spare,
            DatabaseState::Creating => &mut counts.creating,
            DatabaseState::Retiring => &mut counts.retiring,
            DatabaseState::Kept => &mut counts.kept,
            DatabaseState::Blocked => &mut counts.blocked,
        } += 1;
    }
    counts.waiting = snapshot.tickets.iter().map(|ticket| u64::from(ticket.pool == pool.name)).sum();
    counts
}

/// How long the longest waiter of a pool has waited, in seconds.
pub(super) fn longest_wait(pool: &domain::Pool, snapshot: &Snapshot) -> f64 {
    let tickets = snapshot.tickets.iter().filter(|ticket| ticket.pool == pool.name);
    tickets.map(|ticket| ticket.waited_seconds).fold(0.0, f64::max)
}
