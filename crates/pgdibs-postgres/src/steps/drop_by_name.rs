//! `drop database`, and the preparations, of a database that is known to be one to drop.

use tokio::time::Instant;

use super::pre_drop;
use super::sessions::{PATIENT, end_all_sessions};
use super::step_context::StepContext;
use crate::ddl;
use crate::error::Result;
use crate::sqlstate::{self, ErrorClass};

/// Without FORCE and without a timeout: the sessions have ended before, and an interrupted drop leaves a database that only another drop
/// removes. What its last holder left in it is undone only when it prevents the drop, since few holders leave anything.
pub(super) async fn drop_by_name(ctx: &mut StepContext<'_>, name: &dyn ddl::Database, oid: i64) -> Result<()> {
    let deadline = Instant::now() + PATIENT;
    let mut cleaned_up = false;
    loop {
        match ddl::drop_database(name).run(ctx.connection).await {
            Err(error) if sqlstate::class(&error) == ErrorClass::InUse && !cleaned_up => {
                end_all_sessions(ctx.connection, oid).await?;
                pre_drop::before_drop(ctx, oid, name).await?;
                cleaned_up = true;
            }
            // A tenant granted something on it at that moment.
            Err(error) if sqlstate::is_concurrent_update(&error) && Instant::now() < deadline => {}
            Err(error) if sqlstate::class(&error) != ErrorClass::Missing => return Err(error.into()),
            _ => return Ok(()),
        }
    }
}
