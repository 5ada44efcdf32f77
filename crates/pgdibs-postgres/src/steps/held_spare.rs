//! A spare whose row of `pg_database` is locked by a session that does not end: another spare is used, and no slot waits for this one.
//!
//! A backend in an expression without a check for interrupts (some functions of extensions) stays until that is done, with its locks.

use pgdibs_core::database::DatabaseId;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::row;
use crate::ddl;
use crate::error::{Result, stale};
use crate::sqlstate::{self, ErrorClass};

/// After a failed step: whether its spare is such a one. Then it is not used for a while, and a reset that reserved it may reserve another.
///
/// The step's error does not say which of the two databases of a swap is locked, so this tries a change of the spare that changes nothing.
pub(super) async fn set_aside(connection: &mut PgConnection, spare: DatabaseId) -> Result<bool> {
    let mut transaction = connection.begin().await?;
    let spare = row::lock(&mut transaction, &[spare.0]).await?.pop().ok_or_else(|| stale("the spare was deleted"))?;
    if spare.state != "spare" {
        return Ok(false);
    }
    let tried = ddl::bound_one_try().then(ddl::allow_connections(&spare.name, false)).run(&mut transaction).await;
    transaction.rollback().await?;
    match tried {
        Err(error) if sqlstate::class(&error) == ErrorClass::Contended => {}
        Err(error) => return Err(error.into()),
        Ok(()) => return Ok(false),
    }
    // Without counting an attempt: the spare is intact, and usable again once the lock is released.
    sqlx::query(
        "with resting as (update databases set retry_at = now() + interval '10 s' where id = $1 and state = 'spare' returning id)
         update leases set reset_to = null where reset_to = (select id from resting)",
    )
    .bind(spare.id)
    .execute(connection)
    .await?;
    tracing::warn!(database = %spare.name, "using another spare: a session that does not end locks this one");
    Ok(true)
}
