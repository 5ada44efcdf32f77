//! Transactions whose DDL changes rows of shared catalogs that tenants change at the same moment: retried at once.
//!
//! Each `grant` on a database changes its row in `pg_database`, also one that gives nothing new, and the sessions of a pool may grant on
//! each database of their pool. DDL that meets such a change fails with XX000 ("tuple concurrently updated") where other statements wait,
//! so a tenant that grants in a loop would make it fail each time. An attempt that succeeds holds the row until its transaction ends.
//!
//! A transaction is one message, and a second one commits it: a round trip to the server costs about as much as a rename.

use std::time::Duration;

use pgdibs_failpoint::{Failpoint, reach};
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use crate::ddl::{self, Ddl};
use crate::sqlstate;

/// For all attempts of one transaction. An attempt takes about a millisecond.
const LIMIT: Duration = Duration::from_millis(500);

/// Runs statements in a transaction of their own, with the limits of [`ddl::bound_statements`], and commits it after the failpoint.
pub(super) async fn run(
    connection: &mut PgConnection,
    statements: Ddl,
    uncommitted: Failpoint,
) -> Result<(), sqlx::Error> {
    let statements = ddl::bound_statements().then(statements);
    let deadline = Instant::now() + LIMIT;
    loop {
        let error = match statements.start_transaction(connection).await {
            Ok(transaction) => {
                reach(uncommitted).await;
                return transaction.commit().await;
            }
            Err(error) => error,
        };
        // If the connection has ended, so has the transaction.
        let _ = ddl::roll_back().run(connection).await;
        if !sqlstate::is_concurrent_update(&error) || Instant::now() >= deadline {
            return Err(error);
        }
    }
}

/// The same as one message, without a failpoint before the commit.
pub(super) async fn run_at_once(connection: &mut PgConnection, statements: Ddl) -> Result<(), sqlx::Error> {
    let statements = ddl::bound_statements().then(statements);
    let deadline = Instant::now() + LIMIT;
    loop {
        match statements.clone().run(connection).await {
            Err(error) if sqlstate::is_concurrent_update(&error) && Instant::now() < deadline => {}
            result => return result,
        }
    }
}
