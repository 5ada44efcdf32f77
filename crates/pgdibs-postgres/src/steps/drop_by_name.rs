//! `drop database`, and what it takes beforehand, of a database that is known to be one to drop.

use pgdibs_core::error::StepError;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::outcome::{Sql, stuck};
use super::pre_drop;
use super::sessions::{PATIENT, end_sessions};
use crate::context::PgBackend;
use crate::ddl;
use crate::sqlstate::{self, Meaning};

pub(super) async fn end_all_sessions(connection: &mut PgConnection, oid: i64) -> Result<(), StepError> {
    if end_sessions(connection, &[oid]).await?.is_empty() { Ok(()) } else { Err(stuck()) }
}

/// No FORCE, no time-out: sessions are ended first, and an interrupted drop leaves a database that only a drop can help.
///
/// What its last holder left in it is undone only when it proves to be in the way: hardly anybody leaves anything.
pub(super) async fn drop_by_name(
    backend: &PgBackend,
    connection: &mut PgConnection,
    name: &dyn ddl::Database,
    oid: i64,
) -> Result<(), StepError> {
    let deadline = Instant::now() + PATIENT;
    let mut cured = false;
    loop {
        match ddl::drop_database(name).run(connection).await {
            Err(error) if sqlstate::meaning(&error) == Meaning::InUse && !cured => {
                end_all_sessions(connection, oid).await?;
                pre_drop::before_drop(backend, connection, oid, name).await?;
                cured = true;
            }
            // A tenant granted something on it at that moment.
            Err(error) if sqlstate::is_concurrent_update(&error) && Instant::now() < deadline => {}
            Err(error) if sqlstate::meaning(&error) != Meaning::Missing => return Err(Sql(error).into()),
            _ => return Ok(()),
        }
    }
}
