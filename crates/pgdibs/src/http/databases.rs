//! Databases over HTTP: what there is, and giving a kept one up.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pgdibs_core::error::Error;
use pgdibs_core::name::shown;
use pgdibs_core::world::World;
use serde_json::json;

use super::app::Up;
use super::asked::{DatabasesQuery, NoBody, ViaQuery};
use super::json::{Asked, At, SentOrEmpty};
use super::problem::Problem;
use super::wire::CredentialsOut;
use super::wire_pools::DatabaseOut;

/// `GET /v1/databases`.
pub(super) async fn list<W: World + 'static>(
    Up(service): Up<W>,
    Asked(query): Asked<DatabasesQuery>,
) -> Result<Response, Problem> {
    let snapshot = service.world.gather().await?;
    let databases: Vec<DatabaseOut> = snapshot
        .databases
        .iter()
        .filter(|database| query.pool.as_ref().is_none_or(|pool| pool.0 == database.pool))
        .map(|database| DatabaseOut::new(database, &snapshot))
        .collect();
    Ok(Json(json!({"databases": databases})).into_response())
}

/// `DELETE /v1/databases/{database}`: a kept one, early.
pub(super) async fn delete<W: World + 'static>(
    Up(service): Up<W>,
    At(database): At<String>,
) -> Result<StatusCode, Problem> {
    // Postgres's `text` cannot hold a NUL, and no name is longer than 63 bytes.
    if database.len() > 63 || database.contains('\0') {
        return Err(Error::DatabaseNotFound(format!("there is no kept database \"{}\"", shown(&database))).into());
    }
    service.world.drop_kept(&database).await?;
    service.bell.wake_driver();
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/databases/{database}/credentials`: the way into a leased or kept one, for `pgdibs psql`. A POST, because the answer
/// carries a password: no cache keeps it, and no page can ask for it across sites.
pub(super) async fn credentials<W: World + 'static>(
    Up(service): Up<W>,
    At(database): At<String>,
    Asked(query): Asked<ViaQuery>,
    SentOrEmpty(_nothing): SentOrEmpty<NoBody>,
) -> Result<Json<CredentialsOut>, Problem> {
    let address = service.address(query.via())?;
    if database.len() > 63 || database.contains('\0') {
        return Err(Error::DatabaseNotFound(format!("there is no database \"{}\"", shown(&database))).into());
    }
    let credentials = service.world.credentials(&database).await?;
    Ok(Json(CredentialsOut::new(&credentials, address, database)))
}
