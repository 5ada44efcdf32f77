//! Databases over HTTP: list them, reach one, give a kept one up.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use pgdibs_api::database::{Credentials, CredentialsRequest, Database, Databases, DatabasesQuery};
use pgdibs_api::lease::ViaQuery;
use pgdibs_api::time::rfc3339;
use pgdibs_core::backend::Backend;
use pgdibs_core::database::{self as domain, DatabaseId};
use pgdibs_core::lease::LeaseId;
use pgdibs_core::snapshot::Snapshot;

use super::api_error::ApiError;
use super::connection_url::access;
use super::extractors::{FromPath, OptionalJsonBody, PathParams, QueryParams};
use super::leases::via;
use crate::service::Service;

/// The name of a database. One that breaks the rule is a database that is not there.
impl FromPath for String {
    type Text = Self;

    fn from_path(text: Self) -> Result<Self, ApiError> {
        Ok(text)
    }
}

/// Every database that pgdibs made.
#[utoipa::path(get, path = "/v1/databases", operation_id = "listDatabases", params(DatabasesQuery), responses(
    (status = 200, description = "The databases.", body = Databases),
))]
pub(super) async fn list<B: Backend + 'static>(
    service: Service<B>,
    QueryParams(query): QueryParams<DatabasesQuery>,
) -> Result<Json<Databases>, ApiError> {
    let snapshot = service.snapshot().await?;
    let mut databases = all(&snapshot);
    databases.retain(|database| query.pool.as_ref().is_none_or(|pool| pool.0.as_str() == database.pool));
    Ok(Json(Databases { databases }))
}

/// Gives a kept database up early.
#[utoipa::path(delete, path = "/v1/databases/{database}", operation_id = "dropKeptDatabase",
    params(("database" = String, Path)), responses(
    (status = 204, description = "The database is being dropped."),
))]
pub(super) async fn delete<B: Backend + 'static>(
    service: Service<B>,
    PathParams(database): PathParams<String>,
) -> Result<StatusCode, ApiError> {
    service.drop_kept(&database).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The URL and login of a leased or kept database, for `pgdibs psql`.
// A POST, because the answer carries a password: no cache keeps it, and no page of another site can request it.
#[utoipa::path(post, path = "/v1/databases/{database}/credentials", operation_id = "openDatabase",
    params(("database" = String, Path), ViaQuery), responses(
    (status = 200, description = "Its URL and login.", body = Credentials),
))]
pub(super) async fn credentials<B: Backend + 'static>(
    service: Service<B>,
    PathParams(database): PathParams<String>,
    QueryParams(query): QueryParams<ViaQuery>,
    OptionalJsonBody(CredentialsRequest {}): OptionalJsonBody<CredentialsRequest>,
) -> Result<Json<Credentials>, ApiError> {
    let address = service.address(via(query.via.as_ref()))?;
    let access = access(service.credentials(&database).await?, address, &database);
    Ok(Json(Credentials {
        database,
        url: access.url,
        host: access.host,
        port: access.port,
        user: access.user,
        password: access.password,
    }))
}

/// Every database of a snapshot.
pub(super) fn all(snapshot: &Snapshot) -> Vec<Database> {
    let leases: BTreeMap<DatabaseId, LeaseId> =
        snapshot.leases.iter().filter_map(|lease| Some((lease.database?, lease.id))).collect();
    let response = |database: &domain::Database| Database {
        database: database.name.to_string(),
        pool: database.pool.to_string(),
        state: database.state.into(),
        slot: database.slot,
        fingerprint: snapshot.template(database.template).map(|template| template.fingerprint.to_string()),
        oid: database.oid,
        sessions: database.oid.and_then(|oid| snapshot.server.get(&oid)).map(|found| found.sessions),
        lease: leases.get(&database.id).copied().or(database.keep_lease).map(|lease| lease.to_string()),
        created_at: rfc3339(database.created_at),
        ready_at: database.ready_at.map(rfc3339),
        kept_until: database.keep_until.map(rfc3339),
        reason: database.reason.clone(),
        attempts: database.attempts,
        last_error: database.last_error.clone(),
    };
    snapshot.databases.iter().map(response).collect()
}
