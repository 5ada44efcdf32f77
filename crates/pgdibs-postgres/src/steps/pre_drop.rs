//! Pre-drop cleanup: what the holder of a database may leave in it that prevents a rename or a drop, and how that is undone.
//!
//! A prepared transaction prevents both, a subscription prevents the drop, and neither is a session that a fence could end. Both can be
//! undone from inside the database only. A replication slot needs no cleanup: the fence ends its session, and an idle slot is dropped with
//! its database. The template flag is cleared before each drop.

use pgdibs_core::error::StepError;
use pgdibs_core::name::DatabaseName;
use sqlx::postgres::PgConnection;

use super::sessions::end_sessions;
use super::step_context::StepContext;
use crate::context::PgBackend;
use crate::ddl;
use crate::error::{PgError, Result, failed, stuck};
use crate::leftovers::run_as_owner;
use crate::sqlstate::{self, ErrorClass};

/// A prepared transaction or a subscription.
#[derive(sqlx::FromRow)]
struct Obstacle {
    database: String,
    is_transaction: bool,
    /// Its identifier, as its maker chose it.
    name: String,
    owner: String,
}

impl Obstacle {
    fn kind(&self) -> &'static str {
        if self.is_transaction { "prepared transaction" } else { "subscription" }
    }

    async fn undo(&self, backend: &PgBackend, database: &str) -> Result<(), sqlx::Error> {
        let (statement, undid) = match self.is_transaction {
            true => (ddl::roll_back_prepared(&self.name), "rolled back"),
            false => (ddl::drop_subscription(&self.name), "dropped"),
        };
        let address = &backend.connections.address;
        run_as_owner(address, &backend.ddl_application(), database, &self.owner, &statement).await?;
        let Self { database, owner, name, .. } = self;
        tracing::warn!(database, owner, name, "{undid} the {}: it prevented a rename or a drop", self.kind());
        Ok(())
    }

    /// Why it stays; `None` when the server does not answer.
    fn failure(&self, database: &dyn ddl::Database, error: &sqlx::Error) -> Option<PgError> {
        (sqlstate::class(error) != ErrorClass::Unavailable).then(|| {
            failed(format!(
                "{} \"{}\" of role \"{}\" is in the way in database \"{}\", and pgdibs cannot undo it: {}",
                self.kind(),
                self.name,
                self.owner,
                database.name(),
                sqlstate::sentence(error)
            ))
        })
    }
}

/// Rolls back the prepared transactions in databases that are still open: they may hold the very rows that closing changes.
pub(super) async fn roll_back_all(ctx: &mut StepContext<'_>, databases: &[(i64, &DatabaseName)]) -> Result<()> {
    for transaction in find_prepared(ctx, databases).await? {
        // A failure is reported by the second attempt, when the database is closed.
        let _ = transaction.undo(ctx.backend, &transaction.database).await;
    }
    Ok(())
}

/// The same in a database whose logins are closed; a failure is an error.
pub(super) async fn roll_back_left(ctx: &mut StepContext<'_>, oid: i64, name: &DatabaseName) -> Result<()> {
    for transaction in find_prepared(ctx, &[(oid, name)]).await? {
        let undone = transaction.undo(ctx.backend, name.as_str()).await;
        undone.map_err(|error| transaction.failure(name, &error).unwrap_or(error.into()))?;
    }
    Ok(())
}

/// Undoes what would prevent the rename of closed databases, whose sessions have ended. Returns the oids of those for which that failed,
/// with the reasons.
pub(super) async fn before_rename(
    ctx: &mut StepContext<'_>,
    databases: &[(i64, &DatabaseName)],
) -> Result<Vec<(i64, StepError)>> {
    let prepared = find_prepared(ctx, databases).await?;
    let mut failed = Vec::new();
    for (oid, name) in databases {
        let of_this: Vec<&Obstacle> = prepared.iter().filter(|one| one.database == name.as_str()).collect();
        if let Err(error) = clean_up(ctx, *oid, *name, &of_this).await {
            failed.push((*oid, error.into()));
        }
    }
    Ok(failed)
}

/// Undoes what would prevent the drop of a closed database, whose sessions have ended.
pub(super) async fn before_drop(ctx: &mut StepContext<'_>, oid: i64, name: &dyn ddl::Database) -> Result<()> {
    let obstacles = find(ctx.connection, &[oid]).await?;
    clean_up(ctx, oid, name, &obstacles.iter().collect::<Vec<_>>()).await
}

/// The prepared transactions in these databases. Postgres has `max_prepared_transactions = 0` by default, and then none can exist.
async fn find_prepared(
    ctx: &mut StepContext<'_>,
    databases: &[(i64, &DatabaseName)],
) -> Result<Vec<Obstacle>, sqlx::Error> {
    if databases.is_empty() || !ctx.backend.facts().prepares_transactions {
        return Ok(Vec::new());
    }
    let oids: Vec<i64> = databases.iter().map(|(oid, _)| *oid).collect();
    let mut found = find(ctx.connection, &oids).await?;
    found.retain(|obstacle| obstacle.is_transaction);
    Ok(found)
}

async fn find(connection: &mut PgConnection, oids: &[i64]) -> Result<Vec<Obstacle>, sqlx::Error> {
    sqlx::query_as(
        "select p.datname::text as database, true as is_transaction, x.gid as name, x.owner::text as owner
         from pg_prepared_xacts x join pg_database p on p.datname = x.database where p.oid::int8 = any($1)
         union all
         select p.datname::text, false, s.subname::text, pg_get_userbyid(s.subowner)::text
         from pg_subscription s join pg_database p on p.oid = s.subdbid where p.oid::int8 = any($1)",
    )
    .bind(oids)
    .fetch_all(connection)
    .await
}

/// Opens the database, undoes the obstacles, and closes it again, also after a failure.
async fn clean_up(
    ctx: &mut StepContext<'_>,
    oid: i64,
    name: &dyn ddl::Database,
    obstacles: &[&Obstacle],
) -> Result<()> {
    if obstacles.is_empty() {
        return Ok(());
    }
    // A prepared transaction may hold the very row, so the statement has a timeout.
    ddl::bound_statements().then(ddl::allow_connections(name, true)).run(ctx.connection).await?;
    let mut undone = Ok(());
    for obstacle in obstacles {
        let result = obstacle.undo(ctx.backend, name.name()).await;
        undone = result.map_err(|error| obstacle.failure(name, &error).unwrap_or(error.into()));
        if undone.is_err() {
            break;
        }
    }
    ddl::allow_connections(name, false).run(ctx.connection).await?;
    // Sessions that connected in between, also of a holder whose lease is being reset.
    let left = end_sessions(ctx.connection, &[oid]).await?;
    undone?;
    if left.is_empty() { Ok(()) } else { Err(stuck()) }
}
