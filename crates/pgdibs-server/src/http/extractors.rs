//! Extractors for bodies, paths and queries. Every error names the field and the rule.

#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use pgdibs_api::limits::LARGEST_BODY;
use pgdibs_api::problem::Code;
use pgdibs_core::name::PoolName;
use serde::de::DeserializeOwned;

use super::api_error::ApiError;

/// A body that does not arrive within this time is refused, so that no slow sender holds a connection. The listener adds it to each
/// request.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyDeadline(pub(super) Duration);

/// For requests that come without a listener.
const BODY_DEADLINE: BodyDeadline = BodyDeadline(Duration::from_secs(10));

/// How much of a body that is too large is read and discarded; without that the client sees a broken connection and not the answer.
const DRAINED: u64 = 16 * 1024 * 1024;
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// A JSON object that must be there.
pub(super) struct JsonBody<T>(pub(super) T);

/// A JSON object every field of which is optional, so that no body at all stands for an empty one.
pub(super) struct OptionalJsonBody<T>(pub(super) T);

/// The variables in the path, decoded.
pub(super) struct PathParams<T>(pub(super) T);

/// The query string.
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, bytes) = read(request).await?;
        if bytes.is_empty() {
            return Err(ApiError::invalid("body", "must be a JSON object, and there is none"));
        }
        must_be_json(&parts.headers)?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, bytes) = read(request).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        must_be_json(&parts.headers)?;
        parse(&bytes).map(Self)
    }
}

/// What a handler is called with in place of the text of its path.
pub(super) trait FromPath: Sized {
    /// A text, or a tuple of several.
    type Text: DeserializeOwned + Send;

    fn from_path(text: Self::Text) -> Result<Self, ApiError>;
}

/// A name that breaks its rule is malformed input, not a pool that is missing.
impl FromPath for PoolName {
    type Text = String;

    fn from_path(text: String) -> Result<Self, ApiError> {
        Ok(Self::parse(&text)?)
    }
}

impl<T: FromPath, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T::Text>::from_request_parts(parts, state).await {
            Ok(Path(text)) => T::from_path(text).map(Self),
            Err(rejection) => Err(ApiError::invalid("path", rejection.body_text())),
        }
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(ApiError::invalid("query", rejection.body_text())),
        }
    }
}

/// Errors quote names and values of the request, but shortened, and without control characters.
const LONGEST_FIELD: usize = 100;
const LONGEST_RULE: usize = 500;

fn shortened(text: &str, most: usize) -> String {
    let mut short = String::new();
    for c in text.chars().take(most) {
        if c.is_control() { short.extend(c.escape_debug()) } else { short.push(c) }
    }
    if text.chars().count() > most {
        short.push('…');
    }
    short
}

fn must_be_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    if headers.contains_key(header::CONTENT_ENCODING) {
        let rule = "the body must be sent as it is, without a Content-Encoding";
        return Err(ApiError::new(Code::UnsupportedMediaType, rule));
    }
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(ApiError::new(Code::UnsupportedMediaType, "the body must be sent as `Content-Type: application/json`"))
}

/// Reads the whole body, within its size and time.
async fn read(request: Request) -> Result<(Parts, Vec<u8>), ApiError> {
    let (parts, mut body) = request.into_parts();
    let BodyDeadline(deadline) = parts.extensions.get().copied().unwrap_or(BODY_DEADLINE);
    let collected = tokio::time::timeout(deadline, async {
        let mut bytes = Vec::new();
        if body.size_hint().lower() > LARGEST_BODY as u64 {
            return Err(too_large());
        }
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::invalid("body", "ended before it was complete"))?;
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > LARGEST_BODY {
                return Err(too_large());
            }
            bytes.extend_from_slice(data);
        }
        Ok(bytes)
    })
    .await;
    match collected {
        Err(_) => Err(ApiError::invalid("body", format!("must arrive within {deadline:?}"))),
        Ok(Err(problem)) => {
            if problem.0.code == Code::BodyTooLarge {
                drain(body).await;
            }
            Err(problem)
        }
        Ok(Ok(bytes)) => Ok((parts, bytes)),
    }
}

fn too_large() -> ApiError {
    ApiError::new(Code::BodyTooLarge, format!("a body may have {} KiB at most", LARGEST_BODY / 1024))
}

async fn drain(mut body: Body) {
    let mut seen = 0;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, |data| data.len() as u64);
            if seen > DRAINED {
                break;
            }
        }
    };
    // When the time is up the connection is closed behind the answer; there is nothing else to do about it.
    let _over = tokio::time::timeout(DRAIN_DEADLINE, reading).await;
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would take an array for a struct, field by field.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::invalid("body", "must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let field = if path.starts_with(['.', '?']) { "body".to_owned() } else { shortened(&path, LONGEST_FIELD) };
        ApiError::invalid(&field, shortened(&rule(error.inner()), LONGEST_RULE))
    })?;
    reader.end().map_err(|error| ApiError::invalid("body", rule(&error)))?;
    Ok(value)
}

/// An error of serde without its position, since most callers do not see the document that their client sends.
fn rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}
