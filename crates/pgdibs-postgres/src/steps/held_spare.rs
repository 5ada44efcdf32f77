//! A spare whose row of `pg_database` a session locks that does not end: another spare serves, and no slot waits for this one.
//!
//! A backend in an expression without a check for interrupts (some functions of extensions) stays until that is done, with its locks.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::outcome::{sql, stale};
use super::used::lock;
use crate::ddl;
use crate::sqlstate::{self, Meaning};

/// After a step that failed: whether its spare is such a one. Then it rests for a while, and a reset that reserved it may reserve another.
///
/// Which of the two databases of a swap is locked no error says, so what is tried is a change of the spare that changes nothing.
pub(super) async fn set_aside(connection: &mut PgConnection, spare: DatabaseId) -> Result<bool, StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let spare = lock(&mut transaction, &[spare.0]).await?.pop().ok_or_else(|| stale("the spare is gone"))?;
    if spare.state != "spare" {
        return Ok(false);
    }
    let tried = ddl::bound_one_try().then(ddl::allow_connections(&spare.name, false)).run(&mut transaction).await;
    sql(transaction.rollback().await)?;
    match tried {
        Err(error) if sqlstate::meaning(&error) == Meaning::Contended => {}
        Err(error) => return Err(sqlstate::step_error(&error)),
        Ok(()) => return Ok(false),
    }
    // Without counting attempts: nothing is wrong with it, and it is a spare again when the lock is gone.
    sql(sqlx::query(
        "with resting as (update databases set retry_at = now() + interval '10 s' where id = $1 and state = 'spare' returning id)
         update leases set reset_to = null where reset_to = (select id from resting)",
    )
    .bind(spare.id)
    .execute(connection)
    .await)?;
    tracing::warn!(database = %spare.name, "another spare serves: a session that does not end locks this one");
    Ok(true)
}
