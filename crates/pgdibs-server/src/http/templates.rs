//! Templates over HTTP: need, build, log, seal, abandon, drop.

#[cfg(test)]
mod tests;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pgdibs_api::bounded::{FingerprintField, PoolField, Text};
use pgdibs_api::problem::Code;
use pgdibs_api::run_report::inputs_of;
use pgdibs_api::template::{
    AbandonRequest, Build, BuildTokenRequest, Template, TemplateBuild, TemplateLog, TemplateRequest,
};
use pgdibs_api::time::rfc3339;
use pgdibs_core::backend::Backend;
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::request::BuildPlace;
use secrecy::{ExposeSecret as _, SecretString};

use super::api_error::ApiError;
use super::connection_url::access;
use super::extractors::{FromPath, JsonBody, OptionalJsonBody, PathParams};
use super::leases::{via, wait};
use super::release_on_disconnect::ReleaseOnDisconnect;
use crate::service::template::Needed;
use crate::service::{Address, Service};

/// What every build token begins with, so that a scanner finds one that leaked.
const TOKEN_MARK: &str = "pgdibsbt";

type TemplatePath = (PoolName, Fingerprint);

impl FromPath for TemplatePath {
    type Text = (String, String);

    fn from_path((pool, fingerprint): (String, String)) -> Result<Self, ApiError> {
        Ok((PoolName::parse(&pool)?, Fingerprint::parse(&fingerprint)?))
    }
}

/// One template.
#[utoipa::path(get, path = "/v1/pools/{pool}/templates/{fingerprint}", operation_id = "getTemplate",
    params(("pool" = PoolField, Path), ("fingerprint" = FingerprintField, Path)), responses(
    (status = 200, description = "The template.", body = Template),
))]
pub(super) async fn show<B: Backend + 'static>(
    service: Service<B>,
    PathParams((pool, fingerprint)): PathParams<TemplatePath>,
) -> Result<Json<Template>, ApiError> {
    Ok(Json((&service.template(&pool, &fingerprint).await?).into()))
}

/// The output of a template's build.
#[utoipa::path(get, path = "/v1/pools/{pool}/templates/{fingerprint}/log", operation_id = "getTemplateLog",
    params(("pool" = PoolField, Path), ("fingerprint" = FingerprintField, Path)), responses(
    (status = 200, description = "The output.", body = TemplateLog),
))]
pub(super) async fn log<B: Backend + 'static>(
    service: Service<B>,
    PathParams((pool, fingerprint)): PathParams<TemplatePath>,
) -> Result<Json<TemplateLog>, ApiError> {
    let (template, log) = service.template_log(&pool, &fingerprint).await?;
    let (pool, fingerprint) = (pool.to_string(), fingerprint.to_string());
    Ok(Json(TemplateLog { pool, fingerprint, state: template.state.into(), log }))
}

/// "I need this template": finds it, or makes the caller its builder.
#[utoipa::path(put, path = "/v1/pools/{pool}/templates/{fingerprint}", operation_id = "putTemplate",
    params(("pool" = PoolField, Path), ("fingerprint" = FingerprintField, Path)),
    request_body = Option<TemplateRequest>, responses(
    (status = 200, description = "It exists.", body = Template),
    (status = 201, description = "The caller is the builder.", body = TemplateBuild),
    (status = 202, description = "Another builder is still at work after the wait.", body = Template, headers(("Retry-After" = u32))),
))]
pub(super) async fn put<B: Backend + 'static>(
    service: Service<B>,
    PathParams((pool, fingerprint)): PathParams<TemplatePath>,
    OptionalJsonBody(body): OptionalJsonBody<TemplateRequest>,
) -> Result<Response, ApiError> {
    let address = service.address(via(body.via.as_ref()))?.clone();
    let token = new_token();
    let release = {
        let (service, pool, fingerprint, token) = (service.clone(), pool.clone(), fingerprint.clone(), token.clone());
        ReleaseOnDisconnect::then(move || service.abandon_on_disconnect(pool, fingerprint, token))
    };
    let holder = body.holder.as_ref().map_or("", Text::as_str);
    // An error drops `release`: a build that was begun for this caller is abandoned.
    let (inputs, wait) = (inputs_of(body.fingerprint_inputs), wait(body.wait_seconds));
    match service.put_template(&pool, &fingerprint, holder, &token, &inputs, wait).await? {
        Needed::Build(template, place) => {
            release.answer(StatusCode::CREATED, &build(&(&template).into(), place, &token, &address))
        }
        Needed::Ready(template) => {
            release.disarm();
            Ok(Json(Template::from(&template)).into_response())
        }
        Needed::Building(template) => {
            release.disarm();
            let retry_after = Code::TemplateBuilding.retry_after_seconds().unwrap_or(1).to_string();
            let headers = [(header::RETRY_AFTER, retry_after)];
            Ok((StatusCode::ACCEPTED, headers, Json(Template::from(&template))).into_response())
        }
    }
}

fn build(template: &Template, place: BuildPlace, token: &SecretString, address: &Address) -> TemplateBuild {
    let access = access(place.credentials, address, place.database.as_str());
    TemplateBuild {
        template: template.clone(),
        build: Build {
            token: token.expose_secret().to_owned(),
            url: access.url,
            host: access.host,
            port: access.port,
            user: access.user,
            password: access.password,
            database: place.database.to_string(),
            expires_at: rfc3339(place.expires_at),
        },
    }
}

/// 244 random bits, as two version 4 UUIDs: the token alone authorises the seal. The mark is there to be found where it does not belong.
fn new_token() -> SecretString {
    format!("{TOKEN_MARK}{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()).into()
}

/// The builder is done.
#[utoipa::path(post, path = "/v1/pools/{pool}/templates/{fingerprint}/seal", operation_id = "sealTemplate",
    params(("pool" = PoolField, Path), ("fingerprint" = FingerprintField, Path)),
    request_body = BuildTokenRequest, responses(
    (status = 200, description = "It is published.", body = Template),
))]
pub(super) async fn seal<B: Backend + 'static>(
    service: Service<B>,
    PathParams((pool, fingerprint)): PathParams<TemplatePath>,
    JsonBody(body): JsonBody<BuildTokenRequest>,
) -> Result<Json<Template>, ApiError> {
    Ok(Json((&service.seal(&pool, &fingerprint, body.token.expose()).await?).into()))
}

/// A sign of life of the builder.
#[utoipa::path(post, path = "/v1/pools/{pool}/templates/{fingerprint}/renew", operation_id = "renewBuild",
    params(("pool" = PoolField, Path), ("fingerprint" = FingerprintField, Path)),
    request_body = BuildTokenRequest, responses(
    (status = 200, description = "Still building.", body = Template),
))]
pub(super) async fn renew<B: Backend + 'static>(
    service: Service<B>,
    PathParams((pool, fingerprint)): PathParams<TemplatePath>,
    JsonBody(body): JsonBody<BuildTokenRequest>,
) -> Result<Json<Template>, ApiError> {
    Ok(Json((&service.renew_build(&pool, &fingerprint, body.token.expose()).await?).into()))
}

/// The builder gives up.
#[utoipa::path(post, path = "/v1/pools/{pool}/templates/{fingerprint}/abandon", operation_id = "abandonBuild",
    params(("pool" = PoolField, Path), ("fingerprint" = FingerprintField, Path)),
    request_body = AbandonRequest, responses(
    (status = 204, description = "The failed build is dropped."),
))]
pub(super) async fn abandon<B: Backend + 'static>(
    service: Service<B>,
    PathParams((pool, fingerprint)): PathParams<TemplatePath>,
    JsonBody(body): JsonBody<AbandonRequest>,
) -> Result<StatusCode, ApiError> {
    service.abandon_build(&pool, &fingerprint, body.token.expose(), body.detail.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Retires a template.
#[utoipa::path(delete, path = "/v1/pools/{pool}/templates/{fingerprint}", operation_id = "deleteTemplate",
    params(("pool" = PoolField, Path), ("fingerprint" = FingerprintField, Path)), responses(
    (status = 204, description = "The template is being dropped."),
))]
pub(super) async fn delete<B: Backend + 'static>(
    service: Service<B>,
    PathParams((pool, fingerprint)): PathParams<TemplatePath>,
) -> Result<StatusCode, ApiError> {
    service.drop_template(&pool, &fingerprint).await?;
    Ok(StatusCode::NO_CONTENT)
}
