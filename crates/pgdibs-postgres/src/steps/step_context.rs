//! What a step works with: the backend, its connection, and the server process that executes its statements.

use std::sync::atomic::{AtomicI32, Ordering};

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::context::PgBackend;

pub(crate) struct StepContext<'a> {
    pub(crate) backend: &'a PgBackend,
    pub(crate) connection: &'a mut PgConnection,
}

/// The server process of a step; 0 until the step's first statement has returned it.
#[derive(Default)]
pub(super) struct ServerProcess(AtomicI32);

impl ServerProcess {
    /// Reads it from a row with `pg_backend_pid() as process`.
    pub(super) fn read(&self, row: &PgRow) -> Result<(), sqlx::Error> {
        self.0.store(row.try_get("process")?, Ordering::Relaxed);
        Ok(())
    }

    /// The process id, as far as it is known.
    pub(super) fn id(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }
}
