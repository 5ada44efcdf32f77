//! Requests: one module per noun; each function is one transaction, most of them one statement.

pub(crate) mod acquire;
pub(crate) mod choose_template;
pub(crate) mod inputs;
pub(crate) mod snapshot;
pub(crate) mod kept;
pub(crate) mod leases;
pub(crate) mod pools;
pub(crate) mod reports;
pub(crate) mod runs;
pub(crate) mod shared;
pub(crate) mod templates;
pub(crate) mod tickets;

use crate::context::PgBackend;

/// A number for the name of a login or a build.
pub(crate) async fn next_number(backend: &PgBackend) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select nextval('numbers')").fetch_one(&backend.catalog()).await
}
