//! Templates over HTTP: need, build, seal, give up, drop.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::world::World;
use secrecy::{ExposeSecret as _, SecretString};

use super::app::Up;
use super::asked::{AbandonBody, BuildTokenBody, TemplateBody, pool_in_path};
use super::json::{At, Sent, SentOrEmpty};
use super::problem::{Code, Problem};
use super::unanswered::Unanswered;
use super::wire::{BuildOut, TemplateOut};
use crate::service::template::Needed;

/// What every build token begins with, so that a scanner finds one that leaked.
const TOKEN_MARK: &str = "pgdibsbt";

type Path = At<(String, String)>;

fn path(At((pool, fingerprint)): Path) -> Result<(PoolName, Fingerprint), Problem> {
    Ok((pool_in_path(&pool)?, Fingerprint::parse(&fingerprint)?))
}

/// `GET /v1/pools/{pool}/templates/{fingerprint}`.
pub(super) async fn show<W: World + 'static>(Up(service): Up<W>, at: Path) -> Result<Json<TemplateOut>, Problem> {
    let (pool, fingerprint) = path(at)?;
    let template = service.template(&pool, &fingerprint).await?;
    Ok(Json((&template).into()))
}

/// `PUT /v1/pools/{pool}/templates/{fingerprint}`: "I need this template".
pub(super) async fn put<W: World + 'static>(
    Up(service): Up<W>,
    at: Path,
    SentOrEmpty(body): SentOrEmpty<TemplateBody>,
) -> Result<Response, Problem> {
    let (pool, fingerprint) = path(at)?;
    let address = service.address(body.via())?.clone();
    let token = new_token();
    let guard = {
        let (service, pool, fingerprint, token) = (service.clone(), pool.clone(), fingerprint.clone(), token.clone());
        Unanswered::then(move || {
            let tasks = service.tasks.clone();
            tasks.spawn(async move { service.abandon_unanswered(&pool, &fingerprint, &token).await });
        })
    };
    match service.put_template(&pool, &fingerprint, body.holder(), token, body.wait()).await {
        Ok(Needed::Ready(template)) => {
            guard.disarm();
            Ok(Json(TemplateOut::from(&template)).into_response())
        }
        Ok(Needed::Build(template, place, token)) => {
            guard.answer(StatusCode::CREATED, &BuildOut::new(&template, place, &token, &address))
        }
        Ok(Needed::Building(template)) => {
            guard.disarm();
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
pub(super) async fn seal<W: World + 'static>(
    Up(service): Up<W>,
    at: Path,
    Sent(body): Sent<BuildTokenBody>,
) -> Result<Json<TemplateOut>, Problem> {
    let (pool, fingerprint) = path(at)?;
    let template = service.seal(&pool, &fingerprint, body.token.0.expose_secret()).await?;
    Ok(Json((&template).into()))
}

/// `POST …/renew`.
pub(super) async fn renew<W: World + 'static>(
    Up(service): Up<W>,
    at: Path,
    Sent(body): Sent<BuildTokenBody>,
) -> Result<Json<TemplateOut>, Problem> {
    let (pool, fingerprint) = path(at)?;
    let template = service.world.renew_build(&pool, &fingerprint, body.token.0.expose_secret()).await?;
    Ok(Json((&template).into()))
}

/// `POST …/abandon`.
pub(super) async fn abandon<W: World + 'static>(
    Up(service): Up<W>,
    at: Path,
    Sent(body): Sent<AbandonBody>,
) -> Result<StatusCode, Problem> {
    let (pool, fingerprint) = path(at)?;
    service.world.abandon_build(&pool, &fingerprint, body.token.0.expose_secret(), &body.detail.0).await?;
    service.bell.wake_driver();
    service.bell.ring();
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE …`.
pub(super) async fn delete<W: World + 'static>(Up(service): Up<W>, at: Path) -> Result<StatusCode, Problem> {
    let (pool, fingerprint) = path(at)?;
    service.world.drop_template(&pool, &fingerprint).await?;
    service.bell.wake_driver();
    service.bell.ring();
    Ok(StatusCode::NO_CONTENT)
}
