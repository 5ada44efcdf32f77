//! The error type inside this crate, which lets `?` work on what Postgres says and on what pgdibs refuses alike.
//!
//! It becomes the error of the backend trait, at the edge: [`Error`] for requests, [`StepError`] for steps.

use pgdibs_core::error::{Error, StepError};
use pgdibs_core::name::InvalidName;

use crate::sqlstate::{self, ErrorClass};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PgError {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Request(#[from] Error),
    #[error(transparent)]
    Step(#[from] StepError),
}

pub(crate) type Result<T, E = PgError> = std::result::Result<T, E>;

impl From<InvalidName> for PgError {
    fn from(error: InvalidName) -> Self {
        Self::Request(error.into())
    }
}

impl From<PgError> for Error {
    fn from(error: PgError) -> Self {
        match error {
            PgError::Sql(error) => request_error(&error),
            PgError::Request(error) => error,
            PgError::Step(error) => Self::Internal(error.to_string()),
        }
    }
}

impl From<PgError> for StepError {
    fn from(error: PgError) -> Self {
        match error {
            PgError::Sql(error) => match sqlstate::class(&error) {
                ErrorClass::Unavailable | ErrorClass::Refused => Self::Unavailable(sqlstate::sentence(&error)),
                ErrorClass::Stale => Self::Stale(sqlstate::sentence(&error)),
                _ => Self::Failed(sqlstate::sentence(&error)),
            },
            PgError::Request(error) => Self::Failed(error.to_string()),
            PgError::Step(error) => error,
        }
    }
}

fn request_error(error: &sqlx::Error) -> Error {
    match sqlstate::class(error) {
        // pgdibs closes its pools at shutdown only.
        _ if matches!(error, sqlx::Error::PoolClosed) => Error::ShuttingDown,
        // A retry may find more space, memory or connections, and the statement changed nothing.
        ErrorClass::Unavailable | ErrorClass::Contended | ErrorClass::Refused | ErrorClass::Exhausted => {
            Error::ServerUnavailable(sqlstate::sentence(error))
        }
        // A server whose data is in memory loses the catalog in a restart, and the reconciler creates it again.
        _ if matches!(sqlstate::code(error).as_deref(), Some("3D000" | "42P01" | "55000")) => {
            Error::ServerUnavailable(format!(
                "{}; the catalog of pgdibs is missing: the server came back empty and it is being made, or it was renamed or dropped (GET /readyz says which)",
                sqlstate::sentence(error)
            ))
        }
        _ => Error::Internal(sqlstate::sentence(error)),
    }
}

/// The rows were not as the plan expected.
pub(crate) fn stale(what: &str) -> PgError {
    PgError::Step(StepError::Stale(what.to_owned()))
}

/// A session that does not react to `pg_terminate_backend`.
pub(crate) fn stuck() -> PgError {
    failed("a session on it did not end in time after pg_terminate_backend")
}

pub(crate) fn failed(what: impl Into<String>) -> PgError {
    PgError::Step(StepError::Failed(what.into()))
}
