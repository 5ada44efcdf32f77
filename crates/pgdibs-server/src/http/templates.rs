//! Templates over HTTP: need, build, seal, give up, drop.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pgdibs_core::backend::Backend;
use pgdibs_core::name::{Fingerprint, PoolName};
use secrecy::{ExposeSecret as _, SecretString};

use super::app::Up;
use super::extract::{AbandonBody, BuildTokenBody, TemplateBody, pool_in_path};
use super::json::{JsonBody, OptionalJsonBody, PathParams};
use super::problem::{Code, Problem};
use super::release_on_disconnect::ReleaseOnDisconnect;
use super::responses::{BuildOut, TemplateOut};
use crate::service::template::Needed;

/// What every build token begins with, so that a scanner finds one that leaked.
const TOKEN_MARK: &str = "pgdibsbt";

type Path = PathParams<(String, String)>;

fn path(PathParams((pool, fingerprint)): Path) -> Result<(PoolName, Fingerprint), Problem> {
    Ok((pool_in_path(&pool)?, Fingerprint::parse(&fingerprint)?))
}

/// `GET /v1/pools/{pool}/templates/{fingerprint}`.
pub(super) async fn show<W: Backend + 'static>(Up(service): Up<W>, at: Path) -> Result<Json<TemplateOut>, Problem> {
    let (pool, fingerprint) = path(at)?;
    let template = service.template(&pool, &fingerprint).await?;
    Ok(Json((&template).into()))
}

/// `PUT /v1/pools/{pool}/templates/{fingerprint}`: "I need this template".
pub(super) async fn put<W: Backend + 'static>(
    Up(service): Up<W>,
    at: Path,
    OptionalJsonBody(body): OptionalJsonBody<TemplateBody>,
) -> Result<Response, Problem> {
    let (pool, fingerprint) = path(at)?;
    let address = service.address(body.via())?.clone();
    let token = new_token();
    let release = {
        let (service, pool, fingerprint, token) = (service.clone(), pool.clone(), fingerprint.clone(), token.clone());
        ReleaseOnDisconnect::then(move || {
            let tasks = service.tasks.clone();
            tasks.spawn(async move { service.abandon_on_disconnect(&pool, &fingerprint, &token).await });
        })
    };
    match service.put_template(&pool, &fingerprint, body.holder(), token, body.wait()).await {
        Ok(Needed::Ready(template)) => {
            release.disarm();
            Ok(Json(TemplateOut::from(&template)).into_response())
        }
        Ok(Needed::Build(template, place, token)) => {
            release.answer(StatusCode::CREATED, &BuildOut::new(&template, place, &token, &address))
        }
        Ok(Needed::Building(template)) => {
            release.disarm();
            let mut response = (StatusCode::ACCEPTED, Json(TemplateOut::from(&template))).into_response();
            let retry_after = Code::TemplateBuilding.facts().3.unwrap_or(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
            Ok(response)
        }
        // The guard goes with the error: a build that was begun for this caller is given up.
        Err(error) => Err(error.into()),
    }
}

/// 244 random bits, as two version 4 UUIDs: whoever has it may seal. The mark is there to be found where it does not belong.
fn new_token() -> SecretString {
    format!("{TOKEN_MARK}{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()).into()
}

/// `POST …/seal`.
pub(super) async fn seal<W: Backend + 'static>(
    Up(service): Up<W>,
    at: Path,
    JsonBody(body): JsonBody<BuildTokenBody>,
) -> Result<Json<TemplateOut>, Problem> {
    let (pool, fingerprint) = path(at)?;
    let template = service.seal(&pool, &fingerprint, body.token.0.expose_secret()).await?;
    Ok(Json((&template).into()))
}

/// `POST …/renew`.
pub(super) async fn renew<W: Backend + 'static>(
    Up(service): Up<W>,
    at: Path,
    JsonBody(body): JsonBody<BuildTokenBody>,
) -> Result<Json<TemplateOut>, Problem> {
    let (pool, fingerprint) = path(at)?;
    let template = service.backend.renew_build(&pool, &fingerprint, body.token.0.expose_secret()).await?;
    Ok(Json((&template).into()))
}

/// `POST …/abandon`.
pub(super) async fn abandon<W: Backend + 'static>(
    Up(service): Up<W>,
    at: Path,
    JsonBody(body): JsonBody<AbandonBody>,
) -> Result<StatusCode, Problem> {
    let (pool, fingerprint) = path(at)?;
    service.backend.abandon_build(&pool, &fingerprint, body.token.0.expose_secret(), &body.detail.0).await?;
    service.wait_queue.wake_reconciler();
    service.wait_queue.wake_all();
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE …`.
pub(super) async fn delete<W: Backend + 'static>(Up(service): Up<W>, at: Path) -> Result<StatusCode, Problem> {
    let (pool, fingerprint) = path(at)?;
    service.backend.drop_template(&pool, &fingerprint).await?;
    service.wait_queue.wake_reconciler();
    service.wait_queue.wake_all();
    Ok(StatusCode::NO_CONTENT)
}
