//! How a step ends: errors of Postgres as a step sees them, and the server's process that carries it out.

use std::sync::atomic::{AtomicI32, Ordering};

use pgdibs_core::error::StepError;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::sqlstate;

/// An error of Postgres, as a step sees it.
impl From<Sql> for StepError {
    fn from(Sql(error): Sql) -> Self {
        sqlstate::step_error(&error)
    }
}

/// A database error on its way to becoming a [`StepError`]; a type of our own, so that `?` works where both kinds occur.
pub(crate) struct Sql(pub(crate) sqlx::Error);

/// Runs a statement's result through [`Sql`].
pub(crate) fn sql<T>(result: Result<T, sqlx::Error>) -> Result<T, StepError> {
    result.map_err(|error| Sql(error).into())
}

/// The rows were not as the plan expected.
pub(crate) fn stale(what: &str) -> StepError {
    StepError::Stale(what.to_owned())
}

/// A backend that does not react within the fence's deadline.
pub(super) fn stuck() -> StepError {
    StepError::Failed("a session on it did not end within 2 s of being told to".to_owned())
}

/// The server's process that carries a step out, as soon as the step's first statement has said which.
#[derive(Default)]
pub(super) struct ServerProcess(pub(super) AtomicI32);

impl ServerProcess {
    /// Takes it from a row with `pg_backend_pid() as process`.
    pub(super) fn heard_in(&self, row: &PgRow) -> Result<(), StepError> {
        self.0.store(sql(row.try_get("process"))?, Ordering::Relaxed);
        Ok(())
    }
}
