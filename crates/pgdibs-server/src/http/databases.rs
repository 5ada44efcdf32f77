//! Databases over HTTP: what there is, and giving a kept one up.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::shown;
use serde_json::json;

use super::app::Up;
use super::extract::{DatabasesQuery, NoBody, ViaQuery};
use super::json::{OptionalJsonBody, PathParams, QueryParams};
use super::pool_responses::DatabaseOut;
use super::problem::Problem;
use super::responses::CredentialsOut;

/// `GET /v1/databases`.
pub(super) async fn list<W: Backend + 'static>(
    Up(service): Up<W>,
    QueryParams(query): QueryParams<DatabasesQuery>,
) -> Result<Response, Problem> {
    let snapshot = service.backend.gather().await?;
    let databases: Vec<DatabaseOut> = snapshot
        .databases
        .iter()
        .filter(|database| query.pool.as_ref().is_none_or(|pool| pool.0 == database.pool))
        .map(|database| DatabaseOut::new(database, &snapshot))
        .collect();
    Ok(Json(json!({"databases": databases})).into_response())
}

/// `DELETE /v1/databases/{database}`: a kept one, early.
pub(super) async fn delete<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(database): PathParams<String>,
) -> Result<StatusCode, Problem> {
    // Postgres's `text` cannot hold a NUL, and no name is longer than 63 bytes.
    if database.len() > 63 || database.contains('\0') {
        return Err(Error::DatabaseNotFound(format!("there is no kept database \"{}\"", shown(&database))).into());
    }
    service.backend.drop_kept(&database).await?;
    service.wait_queue.wake_reconciler();
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/databases/{database}/credentials`: the way into a leased or kept one, for `pgdibs psql`. A POST, because the answer
/// carries a password: no cache keeps it, and no page can ask for it across sites.
pub(super) async fn credentials<W: Backend + 'static>(
    Up(service): Up<W>,
    PathParams(database): PathParams<String>,
    QueryParams(query): QueryParams<ViaQuery>,
    OptionalJsonBody(_nothing): OptionalJsonBody<NoBody>,
) -> Result<Json<CredentialsOut>, Problem> {
    let address = service.address(query.via())?;
    if database.len() > 63 || database.contains('\0') {
        return Err(Error::DatabaseNotFound(format!("there is no database \"{}\"", shown(&database))).into());
    }
    let credentials = service.backend.credentials(&database).await?;
    Ok(Json(CredentialsOut::new(&credentials, address, database)))
}
