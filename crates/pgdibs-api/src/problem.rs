//! Problems: errors as RFC 9457 documents, and the closed list of their codes.

use std::fmt;

use pgdibs_core::error::Error;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::rfc3339;

macro_rules! codes {
    ($($variant:ident = $name:literal, $status:literal, $title:literal, $retry_after:expr;)*) => {
        /// Why a request failed. A client may match on each; its status never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $(
                #[doc = concat!($title, " (", stringify!($status), ").")]
                $variant
            ),*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Its HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// Its title, a short sentence for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// The seconds after which a client should try again; `None` when another try does not help.
            #[must_use]
            pub const fn retry_after_seconds(self) -> Option<u32> {
                match self { $(Self::$variant => $retry_after),* }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request", 400, "The request is not valid", None;
    Unauthorized = "unauthorized", 401, "A token is needed", None;
    ForbiddenOrigin = "forbidden_origin", 403, "Requests from other sites are refused", None;
    PoolNotFound = "pool_not_found", 404, "There is no such pool", None;
    TemplateNotFound = "template_not_found", 404, "There is no such template", None;
    LeaseNotFound = "lease_not_found", 404, "There is no such lease", None;
    DatabaseNotFound = "database_not_found", 404, "There is no such database", None;
    NotFound = "not_found", 404, "There is no such route", None;
    MethodNotAllowed = "method_not_allowed", 405, "The route does not take this method", None;
    BodyTooLarge = "body_too_large", 413, "The body is too large", None;
    UnsupportedMediaType = "unsupported_media_type", 415, "The body must be JSON", None;
    HostNotAllowed = "host_not_allowed", 421, "The host name is not ours", None;
    PoolInUse = "pool_in_use", 409, "The pool is in use", None;
    TemplateInUse = "template_in_use", 409, "The template is in use", None;
    TemplateAmbiguous = "template_ambiguous", 409, "Several templates of the pool are in use", None;
    BuildTokenStale = "build_token_stale", 409, "The build is no longer yours", None;
    TemplateNotBuilding = "template_not_building", 409, "The template is not being built", None;
    LeaseConflict = "lease_conflict", 409, "The key is held with another template", None;
    ForeignDatabases = "foreign_databases", 409, "Databases of others carry names of this pool", None;
    CapacityExceeded = "capacity_exceeded", 409, "More than can ever fit", None;
    LeaseEnded = "lease_ended", 410, "The lease is over", None;
    RunEnded = "run_ended", 410, "The run is over", None;
    TemplateFailed = "template_failed", 422, "The template could not be built", None;
    PoolExhausted = "pool_exhausted", 503, "No database came free", Some(1);
    TemplateBuilding = "template_building", 503, "The template is still being built", Some(1);
    ServerUnavailable = "server_unavailable", 503, "The Postgres server does not answer", Some(1);
    DiskFloor = "disk_floor", 503, "Too little disk space is left", Some(5);
    MachineBusy = "machine_busy", 503, "The machine is busy", Some(1);
    ShuttingDown = "shutting_down", 503, "The daemon is shutting down", Some(1);
    Internal = "internal", 500, "Something went wrong inside the daemon", None;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as RFC 9457 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:pgdibs:problem:` and the code.
    pub r#type: String,
    /// What is wrong, the same for each code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request, the rule, and what to do.
    pub detail: String,
    /// The code.
    pub code: Code,
}

impl Problem {
    /// The document for `code`.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:pgdibs:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
        }
    }
}

impl From<&Error> for Code {
    fn from(error: &Error) -> Self {
        match error {
            Error::Invalid(_) => Self::InvalidRequest,
            Error::PoolNotFound { .. } => Self::PoolNotFound,
            Error::TemplateNotFound(_) => Self::TemplateNotFound,
            Error::LeaseNotFound(_) => Self::LeaseNotFound,
            Error::DatabaseNotFound(_) => Self::DatabaseNotFound,
            Error::PoolInUse { .. } => Self::PoolInUse,
            Error::TemplateInUse { .. } => Self::TemplateInUse,
            Error::TemplateAmbiguous { .. } => Self::TemplateAmbiguous,
            Error::BuildTokenStale(_) => Self::BuildTokenStale,
            Error::TemplateNotBuilding(_) => Self::TemplateNotBuilding,
            Error::LeaseConflict(_) => Self::LeaseConflict,
            Error::ForeignDatabases { .. } => Self::ForeignDatabases,
            Error::CapacityExceeded(_) => Self::CapacityExceeded,
            Error::LeaseEnded { .. } => Self::LeaseEnded,
            Error::RunEnded(_) => Self::RunEnded,
            Error::TemplateFailed(_) => Self::TemplateFailed,
            Error::PoolExhausted(_) => Self::PoolExhausted,
            Error::TemplateBuilding(_) => Self::TemplateBuilding,
            Error::ServerUnavailable(_) => Self::ServerUnavailable,
            Error::DiskFloor(_) => Self::DiskFloor,
            Error::ShuttingDown => Self::ShuttingDown,
            Error::Internal(_) => Self::Internal,
        }
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let detail = match error {
            Error::LeaseEnded { id, state, reason, at: Some(at), .. } => {
                format!("lease {id} was {} at {}: {reason}", state.as_str(), rfc3339(*at))
            }
            Error::Internal(_) => "the daemon's log says why, under this response's X-Request-Id".to_owned(),
            _ => error.to_string(),
        };
        Self::new(error.into(), detail)
    }
}
