//! Problems: errors as RFC 9457 documents. The one place where a meaning becomes a status, a code and a `Retry-After`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pgdibs_core::error::Error;
use pgdibs_core::name::InvalidName;
use serde_json::json;

use super::responses::rfc3339;

/// The closed list of codes. A client may match on each; its status never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    Unauthorized,
    ForbiddenOrigin,
    PoolNotFound,
    TemplateNotFound,
    LeaseNotFound,
    DatabaseNotFound,
    NotFound,
    MethodNotAllowed,
    BodyTooLarge,
    UnsupportedMediaType,
    HostNotAllowed,
    PoolInUse,
    TemplateInUse,
    BuildTokenStale,
    TemplateNotBuilding,
    LeaseConflict,
    ForeignDatabases,
    CapacityExceeded,
    LeaseEnded,
    RunEnded,
    TemplateFailed,
    PoolExhausted,
    TemplateBuilding,
    ServerUnavailable,
    DiskFloor,
    MachineBusy,
    ShuttingDown,
    Internal,
}

impl Code {
    /// Every code, in the order of the contract's table.
    #[cfg(test)]
    pub(super) const ALL: [Self; 29] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::ForbiddenOrigin,
        Self::PoolNotFound,
        Self::TemplateNotFound,
        Self::LeaseNotFound,
        Self::DatabaseNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::HostNotAllowed,
        Self::PoolInUse,
        Self::TemplateInUse,
        Self::BuildTokenStale,
        Self::TemplateNotBuilding,
        Self::LeaseConflict,
        Self::ForeignDatabases,
        Self::CapacityExceeded,
        Self::LeaseEnded,
        Self::RunEnded,
        Self::TemplateFailed,
        Self::PoolExhausted,
        Self::TemplateBuilding,
        Self::ServerUnavailable,
        Self::DiskFloor,
        Self::MachineBusy,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// Name, status, title, and the seconds after which a client should simply try again.
    pub(super) fn facts(self) -> (&'static str, StatusCode, &'static str, Option<u32>) {
        use StatusCode as S;
        match self {
            Self::InvalidRequest => ("invalid_request", S::BAD_REQUEST, "The request is not valid", None),
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A token is needed", None),
            Self::ForbiddenOrigin => ("forbidden_origin", S::FORBIDDEN, "Requests from other sites are refused", None),
            Self::PoolNotFound => ("pool_not_found", S::NOT_FOUND, "There is no such pool", None),
            Self::TemplateNotFound => ("template_not_found", S::NOT_FOUND, "There is no such template", None),
            Self::LeaseNotFound => ("lease_not_found", S::NOT_FOUND, "There is no such lease", None),
            Self::DatabaseNotFound => ("database_not_found", S::NOT_FOUND, "There is no such database", None),
            Self::NotFound => ("not_found", S::NOT_FOUND, "There is no such route", None),
            Self::MethodNotAllowed => {
                ("method_not_allowed", S::METHOD_NOT_ALLOWED, "The route does not take this method", None)
            }
            Self::BodyTooLarge => ("body_too_large", S::PAYLOAD_TOO_LARGE, "The body is too large", None),
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", S::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON", None)
            }
            Self::HostNotAllowed => ("host_not_allowed", S::MISDIRECTED_REQUEST, "The host name is not ours", None),
            Self::PoolInUse => ("pool_in_use", S::CONFLICT, "The pool is in use", None),
            Self::TemplateInUse => ("template_in_use", S::CONFLICT, "The template is in use", None),
            Self::BuildTokenStale => ("build_token_stale", S::CONFLICT, "The build is no longer yours", None),
            Self::TemplateNotBuilding => {
                ("template_not_building", S::CONFLICT, "The template is not being built", None)
            }
            Self::LeaseConflict => ("lease_conflict", S::CONFLICT, "The key is held with another template", None),
            Self::ForeignDatabases => {
                ("foreign_databases", S::CONFLICT, "Databases of others carry names of this pool", None)
            }
            Self::CapacityExceeded => ("capacity_exceeded", S::CONFLICT, "More than can ever fit", None),
            Self::LeaseEnded => ("lease_ended", S::GONE, "The lease is over", None),
            Self::RunEnded => ("run_ended", S::GONE, "The run is over", None),
            Self::TemplateFailed => {
                ("template_failed", S::UNPROCESSABLE_ENTITY, "The template could not be built", None)
            }
            Self::PoolExhausted => ("pool_exhausted", S::SERVICE_UNAVAILABLE, "No database came free", Some(1)),
            Self::TemplateBuilding => {
                ("template_building", S::SERVICE_UNAVAILABLE, "The template is still being built", Some(1))
            }
            Self::ServerUnavailable => {
                ("server_unavailable", S::SERVICE_UNAVAILABLE, "The Postgres server does not answer", Some(1))
            }
            Self::DiskFloor => ("disk_floor", S::SERVICE_UNAVAILABLE, "Too little disk space is left", Some(5)),
            Self::MachineBusy => ("machine_busy", S::SERVICE_UNAVAILABLE, "The machine is busy", Some(1)),
            Self::ShuttingDown => ("shutting_down", S::SERVICE_UNAVAILABLE, "The daemon is shutting down", Some(1)),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Something went wrong inside the daemon", None),
        }
    }
}

/// A refusal on its way to the client.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) code: Code,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// A field that breaks its rule.
    pub(super) fn invalid(field: &str, rule: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidRequest, format!("{field}: {rule}"))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Invalid(_) => Code::InvalidRequest,
            Error::PoolNotFound(_) => Code::PoolNotFound,
            Error::TemplateNotFound(_) => Code::TemplateNotFound,
            Error::LeaseNotFound(_) => Code::LeaseNotFound,
            Error::DatabaseNotFound(_) => Code::DatabaseNotFound,
            Error::PoolInUse { .. } => Code::PoolInUse,
            Error::TemplateInUse { .. } => Code::TemplateInUse,
            Error::BuildTokenStale(_) => Code::BuildTokenStale,
            Error::TemplateNotBuilding(_) => Code::TemplateNotBuilding,
            Error::LeaseConflict(_) => Code::LeaseConflict,
            Error::ForeignDatabases { .. } => Code::ForeignDatabases,
            Error::CapacityExceeded(_) => Code::CapacityExceeded,
            Error::LeaseEnded { id, state, reason, at: Some(at), .. } => {
                let how = format!("lease {id} was {} at {}: {reason}", state.as_str(), rfc3339(*at));
                return Self::new(Code::LeaseEnded, how);
            }
            Error::LeaseEnded { at: None, .. } => Code::LeaseEnded,
            Error::RunEnded(_) => Code::RunEnded,
            Error::TemplateFailed(_) => Code::TemplateFailed,
            Error::PoolExhausted(_) => Code::PoolExhausted,
            Error::TemplateBuilding(_) => Code::TemplateBuilding,
            Error::ServerUnavailable(_) => Code::ServerUnavailable,
            Error::DiskFloor(_) => Code::DiskFloor,
            Error::ShuttingDown => Code::ShuttingDown,
            Error::Internal(cause) => {
                tracing::error!(%cause, "a request failed inside the daemon");
                return Self::new(Code::Internal, "the daemon's log says why, under this response's X-Request-Id");
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Error::Invalid(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, status, title, retry_after) = self.code.facts();
        let document = json!({
            "type": format!("urn:pgdibs:problem:{code}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "code": code,
        });
        let mut response = (status, document.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pgdibs\""));
            headers.append(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"pgdibs\", charset=\"UTF-8\""),
            );
        }
        response
    }
}
