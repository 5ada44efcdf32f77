//! Statements on rows of shared catalogs that tenants change at the same moment: retried at once.
//!
//! Each `grant` on a database changes its row in `pg_database`, also one that gives nothing new, and the sessions of a pool may grant on
//! each database of their pool. DDL that meets such a change fails with XX000 ("tuple concurrently updated") where other statements wait,
//! so a tenant that grants in a loop would make it fail each time. An attempt that succeeds holds the row until its transaction ends.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use crate::ddl::{self, Ddl};
use crate::sqlstate;

/// For all attempts of one transaction. An attempt takes about a millisecond.
const LIMIT: Duration = Duration::from_millis(500);

/// Runs statements in the open transaction.
pub(super) async fn run(connection: &mut PgConnection, statements: &Ddl) -> Result<(), sqlx::Error> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match ddl::in_savepoint(statements).run(connection).await {
            Err(error) if sqlstate::is_concurrent_update(&error) && Instant::now() < deadline => {
                ddl::back_to_savepoint().run(connection).await?;
            }
            result => return result,
        }
    }
}
