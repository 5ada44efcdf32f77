//! Errors on their way to the caller: problems of the API with their status and headers.

#[cfg(test)]
mod tests;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pgdibs_api::problem::{Code, Problem};
use pgdibs_core::error::Error;
use pgdibs_core::name::InvalidName;

/// A problem as a response.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Problem);

impl ApiError {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    /// A field that breaks its rule.
    pub(super) fn invalid(field: &str, rule: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidRequest, format!("{field}: {rule}"))
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        if let Error::Internal(cause) = &error {
            tracing::error!(%cause, "request failed inside the daemon");
        }
        Self(Problem::from(&error))
    }
}

impl From<InvalidName> for ApiError {
    fn from(error: InvalidName) -> Self {
        Error::Invalid(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = code.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if code == Code::Unauthorized {
            for challenge in ["Bearer realm=\"pgdibs\"", "Basic realm=\"pgdibs\", charset=\"UTF-8\""] {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        response
    }
}
