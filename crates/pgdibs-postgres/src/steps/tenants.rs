//! Databases that tests created (`login = "createdb"`): recognised by their owners, dropped at the end of the lease, and renamed when the
//! daemon needs their names.
//!
//! A tenant may give its database to the owner role of its pool, as which all leases of the pool act. Postgres does not record which login
//! created a database, so the daemon drops such a one when all leases have ended that were live when it first saw the database.

use std::collections::BTreeSet;

use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, RoleName, TestsOwnDatabase};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::drop_by_name::drop_by_name;
use super::pre_drop;
use super::sessions::end_all_sessions;
use super::sessions::{BRIEF, end_sessions_and_logins};
use super::step_context::StepContext;
use crate::ddl::{self, Ddl};
use crate::error::{Result, stuck};
use crate::leftovers::roll_back_prepared;
use crate::rows::Columns as _;
use crate::sqlstate::{self, ErrorClass};

/// A database that tests created.
pub(crate) struct Made {
    pub(crate) database: TestsOwnDatabase,
    owner: String,
    pub(crate) oid: i64,
    /// Its drop was interrupted.
    invalid: bool,
}

impl Made {
    /// From columns of `server_databases`.
    pub(crate) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let (owner, name): (String, String) = (row.try_get("owner")?, row.foreign_name("name")?);
        let database =
            TestsOwnDatabase::of_login(&owner, &name).unwrap_or_else(|| TestsOwnDatabase::of_pool_owner(&name));
        Ok(Self { database, owner, oid: row.try_get("oid")?, invalid: row.try_get("invalid")? })
    }
}

/// Drops all databases of these logins, and rolls back what they prepared; they are closed and have no session.
pub(super) async fn drop_what_they_made(ctx: &mut StepContext<'_>, logins: &[RoleName]) -> Result<()> {
    let names: Vec<&str> = logins.iter().map(RoleName::as_str).collect();
    let made = sqlx::query(
        "select owner::text, name::text, oid::int8, invalid from server_databases
         where owner = any($1::name[]) and owner ~ '^pgdibs_l_[0-9]+$' and made_by_tests",
    )
    .bind(&names)
    .try_map(|row| Made::read(&row))
    .fetch_all(&mut *ctx.connection)
    .await?;
    drop_all(ctx, &made).await?;
    if ctx.backend.facts().prepares_transactions {
        roll_back_what_they_prepared(ctx, &names).await?;
    }
    Ok(())
}

/// In any database: a prepared transaction keeps its locks, and its role, for ever.
async fn roll_back_what_they_prepared(ctx: &mut StepContext<'_>, logins: &[&str]) -> Result<(), sqlx::Error> {
    let prepared: Vec<(String, String, String)> =
        sqlx::query_as("select database::text, gid, owner::text from pg_prepared_xacts where owner = any($1::name[])")
            .bind(logins)
            .fetch_all(&mut *ctx.connection)
            .await?;
    for (database, gid, owner) in prepared {
        match roll_back_prepared(&ctx.backend.connections.address, &database, &gid, &owner).await {
            Ok(()) => tracing::warn!(database, gid, owner, "rolled back prepared transaction: its lease has ended"),
            Err(error) if sqlstate::class(&error) == ErrorClass::Unavailable => return Err(error),
            Err(error) => {
                let why = sqlstate::sentence(&error);
                tracing::warn!(database, gid, owner, "cannot roll back prepared transaction: {why}");
            }
        }
    }
    Ok(())
}

/// Drops databases that tests of ended leases gave to the owner role of a pool.
pub(super) async fn drop_handed_over(ctx: &mut StepContext<'_>) -> Result<()> {
    let found = sqlx::query(
        "select s.owner::text, s.name::text, s.oid::int8, s.invalid, s.made_by_tests,
                array(select unnest(array_remove(array[b.login, l.shared_login], null)) from leases l join databases b on b.id = l.database_id
                      join pools p on p.name = b.pool where l.state = 'live' and p.owner = s.owner::text) as live
         from server_databases s
         where s.owner::text in (select n.name from roles n join pools p on p.owner = n.name where p.login <> 'plain')
           and not exists (select from databases b where b.oid = s.oid::int8) and not exists (select from templates t where t.oid = s.oid::int8)",
    )
    .try_map(|row| Ok((Made::read(&row)?, row.try_get("made_by_tests")?, row.try_get("live")?)))
    .fetch_all(&mut *ctx.connection)
    .await?;
    let mut left_over = Vec::new();
    {
        let mut seen = ctx.backend.handed_over.lock();
        let present: BTreeSet<i64> = found.iter().map(|(made, ..): &(Made, bool, Vec<String>)| made.oid).collect();
        seen.makers.retain(|oid, _| present.contains(oid));
        seen.logged.retain(|oid| present.contains(oid));
        for (made, made_by_tests, live) in found {
            if made_by_tests {
                if seen.is_left_over(made.oid, &live.into_iter().collect()) {
                    left_over.push(made);
                }
            } else if seen.logged.insert(made.oid) {
                let (database, owner) = (made.database.as_str(), made.owner);
                tracing::warn!(
                    database,
                    owner,
                    "cannot drop database of a pool's owner role: it is older than the role, so tests may not have made it"
                );
            }
        }
    }
    drop_all(ctx, &left_over).await
}

/// Drops them. A failure is logged once, and the others are dropped all the same: garbage collection retries, and so does the end of the next
/// lease of its pool.
async fn drop_all(ctx: &mut StepContext<'_>, all: &[Made]) -> Result<()> {
    let mut closed = Vec::with_capacity(all.len());
    for made in all {
        // All of them first: a prepared transaction in one may lock another.
        closed.push(if made.invalid { Ok(()) } else { close(ctx, made).await });
    }
    for (made, closed) in all.iter().zip(closed) {
        let dropped = match closed {
            Ok(()) => drop_by_name(ctx, &made.database, made.oid).await,
            Err(error) => Err(error),
        };
        match dropped.map_err(StepError::from) {
            Ok(()) => {}
            Err(error @ StepError::Unavailable(_)) => return Err(error.into()),
            Err(why) => {
                if ctx.backend.handed_over.lock().logged.insert(made.oid) {
                    let (database, owner) = (made.database.as_str(), &made.owner);
                    tracing::warn!(database, owner, "cannot drop database that tests made, retrying later: {why}");
                }
            }
        }
    }
    Ok(())
}

/// Closes one of them, and ends its sessions and prepared transactions.
async fn close(ctx: &mut StepContext<'_>, made: &Made) -> Result<()> {
    // An open transaction in it may hold the row that closing changes.
    end_all_sessions(ctx.connection, made.oid).await?;
    match ddl::bound_statements().then(ddl::close_tests_own(&made.database)).run(ctx.connection).await {
        // A concurrent step has dropped it.
        Err(error) if sqlstate::class(&error) == ErrorClass::Missing => return Ok(()),
        closed => closed?,
    }
    end_all_sessions(ctx.connection, made.oid).await?;
    if ctx.backend.facts().prepares_transactions {
        // A drop would wait for a prepared transaction for five seconds.
        pre_drop::before_drop(ctx, made.oid, &made.database).await?;
    }
    Ok(())
}

/// Renames the database with this name, if tests created it, so that a failed step can use the name. It keeps its contents, closed, and is
/// dropped with its lease. Returns whether there was one.
pub(super) async fn free_name(ctx: &mut StepContext<'_>, name: &DatabaseName) -> Result<bool> {
    let found = sqlx::query(
        "select owner::text, name::text, oid::int8, invalid from server_databases where name = $1::name and made_by_tests",
    )
    .bind(name.as_str())
    .try_map(|row| Made::read(&row))
    .fetch_optional(&mut *ctx.connection)
    .await?;
    let Some(Made { database, owner, oid, invalid }) = found else { return Ok(false) };
    if invalid {
        // The only thing that can be done with it.
        drop_by_name(ctx, &database, oid).await?;
        return Ok(true);
    }
    // Of its maker as well, who may be about to create another one.
    end_sessions_and_logins(ctx.connection, &[oid], &[&owner], BRIEF).await?;
    run_bounded(ctx.connection, ddl::close_tests_own(&database)).await?;
    if !end_sessions_and_logins(ctx.connection, &[oid], &[&owner], BRIEF).await?.is_empty() {
        return Err(stuck());
    }
    if ctx.backend.facts().prepares_transactions {
        pre_drop::before_drop(ctx, oid, &database).await?;
    }
    #[allow(clippy::cast_possible_truncation, reason = "half of a random number is as random")]
    let moved = TestsOwnDatabase::moved(uuid::Uuid::new_v4().as_u128() as u64);
    run_bounded(ctx.connection, ddl::rename(&database, &moved)).await?;
    tracing::warn!(database = %name, owner, moved = moved.as_str(), "renamed database that tests made: pgdibs needs its name");
    Ok(true)
}

/// In a transaction of its own, since the limits are for a transaction.
async fn run_bounded(connection: &mut PgConnection, statements: Ddl) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    ddl::bound_statements().then(statements).run(&mut transaction).await?;
    transaction.commit().await
}
