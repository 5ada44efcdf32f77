//! Databases that tests made themselves (`login = "createdb"`): told by their owners, dropped at the end of the lease, and moved away from
//! names that the daemon gives.
//!
//! A tenant may hand its database to the owner role of its pool, as which all leases of the pool act. Postgres does not record who made a
//! database, so such a one goes when all leases have ended that were live when the daemon first saw it.

use std::collections::BTreeSet;

use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, RoleName, TestsOwnDatabase};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::drop_by_name::{drop_by_name, end_all_sessions};
use super::outcome::{sql, stuck};
use super::pre_drop;
use super::sessions::{BRIEF, end_sessions_and_logins};
use crate::context::PgBackend;
use crate::ddl;
use crate::leftovers::roll_back_prepared;
use crate::shared_sql::made_by_tests;
use crate::sqlstate::{self, Meaning};

/// A database that tests made.
struct Made {
    database: TestsOwnDatabase,
    oid: i64,
    /// Its drop was interrupted.
    invalid: bool,
}

/// Drops what these logins made, whatever it is called, and rolls back what they prepared; they are closed and have no session.
pub(super) async fn drop_what_they_made(
    backend: &PgBackend,
    connection: &mut PgConnection,
    logins: &[RoleName],
) -> Result<(), StepError> {
    let names: Vec<&str> = logins.iter().map(RoleName::as_str).collect();
    let found: Vec<(String, String, i64, bool)> = sql(sqlx::query_as(
        "select o.rolname::text, d.datname::text, d.oid::int8, d.datconnlimit = -2
         from pg_database d join pg_roles o on o.oid = d.datdba where o.rolname = any($1::name[])",
    )
    .bind(names)
    .fetch_all(&mut *connection)
    .await)?;
    let made: Vec<(Made, String)> = found
        .into_iter()
        .filter_map(|(login, name, oid, invalid)| {
            Some((Made { database: TestsOwnDatabase::of_login(&login, &name)?, oid, invalid }, login))
        })
        .collect();
    drop_or_tell(backend, connection, &made).await?;
    roll_back_what_they_prepared(backend, connection, logins).await
}

/// In whatever database: what is prepared keeps its locks, and its role, for ever.
async fn roll_back_what_they_prepared(
    backend: &PgBackend,
    connection: &mut PgConnection,
    logins: &[RoleName],
) -> Result<(), StepError> {
    if !backend.connections.facts.prepares_transactions {
        return Ok(());
    }
    let names: Vec<&str> = logins.iter().map(RoleName::as_str).collect();
    let prepared: Vec<(String, String, String)> = sql(sqlx::query_as(
        "select database::text, gid, owner::text from pg_prepared_xacts where owner = any($1::name[])",
    )
    .bind(names)
    .fetch_all(connection)
    .await)?;
    for (database, gid, owner) in prepared {
        match roll_back_prepared(&backend.connections.address, &database, &gid, &owner).await {
            Ok(()) => tracing::warn!(database, gid, owner, "rolled back prepared transaction: its lease is over"),
            Err(error) if sqlstate::meaning(&error) == Meaning::Unavailable => return sql(Err(error)),
            Err(error) => {
                tracing::warn!(
                    database,
                    gid,
                    owner,
                    "cannot roll back prepared transaction: {}",
                    sqlstate::sentence(&error)
                );
            }
        }
    }
    Ok(())
}

/// Drops databases that were handed to the owner role of a pool by leases that are over.
pub(super) async fn drop_handed_over(backend: &PgBackend, connection: &mut PgConnection) -> Result<(), StepError> {
    let found: Vec<(String, String, i64, bool, bool, Vec<String>)> = sql(sqlx::query_as(concat!(
        "select o.rolname::text, d.datname::text, d.oid::int8, d.datconnlimit = -2, ",
        made_by_tests!(),
        ", array(select unnest(array_remove(array[b.login, l.shared_login], null)) from leases l join databases b on b.id = l.database_id
                 join pools p on p.name = b.pool where l.state = 'live' and p.owner = o.rolname::text)
         from pg_database d join pg_roles o on o.oid = d.datdba
         where o.rolname::text in (select n.name from roles n join pools p on p.owner = n.name where p.login <> 'plain')
           and not exists (select from databases b where b.oid = d.oid::int8) and not exists (select from templates t where t.oid = d.oid::int8)"
    ))
    .fetch_all(&mut *connection)
    .await)?;
    let mut left_over = Vec::new();
    if let Ok(mut seen) = backend.handed_over.lock() {
        let there: BTreeSet<i64> = found.iter().map(|(_, _, oid, ..)| *oid).collect();
        seen.makers.retain(|oid, _| there.contains(oid));
        seen.told.retain(|oid| there.contains(oid));
        for (owner, name, oid, invalid, newer, live) in found {
            if !newer {
                if seen.told.insert(oid) {
                    tracing::warn!(
                        database = name,
                        owner,
                        "cannot drop database of a pool's owner role: it is older than the role, so tests may not have made it"
                    );
                }
            } else if seen.is_left_over(oid, &live.into_iter().collect()) {
                left_over.push((Made { database: TestsOwnDatabase::of_pool_owner(&name), oid, invalid }, owner));
            }
        }
    }
    drop_or_tell(backend, connection, &left_over).await
}

/// Drops them, each with its owner. That one cannot be dropped is told once, and holds up nothing else: it is tried again by the sweep, or when
/// another lease of its pool ends.
async fn drop_or_tell(
    backend: &PgBackend,
    connection: &mut PgConnection,
    all: &[(Made, String)],
) -> Result<(), StepError> {
    let mut closed = Vec::new();
    for (made, owner) in all {
        // All of them first: what is prepared in one may lock another.
        closed.push((made, owner, if made.invalid { Ok(()) } else { close(backend, connection, made).await }));
    }
    for (made, owner, closed) in closed {
        let dropped = match closed {
            Ok(()) => drop_by_name(backend, connection, &made.database, made.oid).await,
            Err(error) => Err(error),
        };
        match dropped {
            Ok(()) => {}
            Err(StepError::Unavailable(why)) => return Err(StepError::Unavailable(why)),
            Err(why) => {
                if backend.handed_over.lock().is_ok_and(|mut seen| seen.told.insert(made.oid)) {
                    let database = made.database.as_str();
                    tracing::warn!(database, owner, "cannot drop database that tests made, trying again later: {why}");
                }
            }
        }
    }
    Ok(())
}

/// Closes one of them, with neither a session nor anything prepared in it.
async fn close(backend: &PgBackend, connection: &mut PgConnection, made: &Made) -> Result<(), StepError> {
    // An open transaction in it may hold the row that closing changes.
    end_all_sessions(connection, made.oid).await?;
    match ddl::bound_statements().then(ddl::close_tests_own(&made.database)).run(connection).await {
        // Another step was faster to drop it.
        Err(error) if sqlstate::meaning(&error) == Meaning::Missing => return Ok(()),
        closed => sql(closed)?,
    }
    end_all_sessions(connection, made.oid).await?;
    if backend.connections.facts.prepares_transactions {
        // A drop would wait for it for five seconds.
        pre_drop::before_drop(backend, connection, made.oid, &made.database).await?;
    }
    Ok(())
}

/// Renames the database with this name, if tests made it, so that a step that failed may have the name. It keeps its contents, closed, and
/// is dropped with its lease. Returns whether there was one.
pub(super) async fn free_name(
    backend: &PgBackend,
    connection: &mut PgConnection,
    name: &DatabaseName,
) -> Result<bool, StepError> {
    let found: Option<(String, i64, bool)> = sql(sqlx::query_as(concat!(
        "select o.rolname::text, d.oid::int8, d.datconnlimit = -2 from pg_database d join pg_roles o on o.oid = d.datdba
         where d.datname = $1::name and ",
        made_by_tests!()
    ))
    .bind(name.as_str())
    .fetch_optional(&mut *connection)
    .await)?;
    let Some((owner, oid, invalid)) = found else { return Ok(false) };
    let theirs = TestsOwnDatabase::of_login(&owner, name.as_str())
        .unwrap_or_else(|| TestsOwnDatabase::of_pool_owner(name.as_str()));
    if invalid {
        // It can only be dropped.
        drop_by_name(backend, connection, &theirs, oid).await?;
        return Ok(true);
    }
    // Of its maker as well, who may be about to make another one.
    end_sessions_and_logins(connection, &[oid], &[&owner], BRIEF).await?;
    let mut transaction = sql(connection.begin().await)?;
    sql(ddl::bound_statements().then(ddl::close_tests_own(&theirs)).run(&mut transaction).await)?;
    sql(transaction.commit().await)?;
    if !end_sessions_and_logins(connection, &[oid], &[&owner], BRIEF).await?.is_empty() {
        return Err(stuck());
    }
    if backend.connections.facts.prepares_transactions {
        pre_drop::before_drop(backend, connection, oid, &theirs).await?;
    }
    #[allow(clippy::cast_possible_truncation, reason = "half of a random number is as random")]
    let moved = TestsOwnDatabase::moved(uuid::Uuid::new_v4().as_u128() as u64);
    let mut transaction = sql(connection.begin().await)?;
    sql(ddl::bound_statements().then(ddl::rename(&theirs, &moved)).run(&mut transaction).await)?;
    sql(transaction.commit().await)?;
    tracing::warn!(database = %name, owner, moved = moved.as_str(), "renamed database that tests made: pgdibs needs its name");
    Ok(true)
}
