//! The fence: nothing of its last holder is left in a database, and nothing of it comes in again. Only then is the database renamed.
//!
//! The order matters. An open transaction of the tenant may hold the very rows of `pg_database` and `pg_authid` that closing has to
//! change (see [`crate::blockers`]), so sessions and prepared transactions end first. Whoever came in until then is ended after that.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::DatabaseName;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use std::time::Duration;

use super::outcome::{sql, stale, stuck};
use super::sessions::{PATIENT, end_sessions_and_logins};
use super::used::{self, Swapped, is_leaving, lock, take_snapshot};
use super::{contended, pre_drop};
use crate::context::PgBackend;
use crate::ddl;
use crate::failpoint::{Point, reach};

/// Which used databases a fence is for, and so what is closed beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The lease is over: its login closes as well.
    Lease,
    /// The lease is reset, and keeps its login.
    Reset,
}

impl End {
    fn concerns(self, database: &Swapped) -> bool {
        match self {
            Self::Lease => is_leaving(database),
            Self::Reset => database.state == "leased" && database.resetting,
        }
    }

    fn closed(self) -> Point {
        if self == Self::Lease { Point::ReturnClosed } else { Point::ResetClosed }
    }

    fn fenced(self) -> Point {
        if self == Self::Lease { Point::ReturnFenced } else { Point::ResetFenced }
    }
}

/// Fences databases. Returns those for which that failed, and why; each of the others has neither a session nor a way in.
///
/// `patience` bounds each wait for sessions to end.
pub(super) async fn fence(
    backend: &PgBackend,
    connection: &mut PgConnection,
    end: End,
    ids: &[i64],
    patience: Duration,
) -> Result<Vec<(i64, StepError)>, StepError> {
    let found: Vec<Swapped> = take_snapshot(connection, ids).await?.into_iter().filter(|d| end.concerns(d)).collect();
    end_all(connection, &found, patience).await?;
    pre_drop::roll_back_all(backend, connection, &named(&found)).await?;
    let (closed, mut failed) = close(connection, end, ids).await?;
    reach(end.closed()).await;
    let unended = end_all(connection, &closed, patience).await?;
    reach(end.fenced()).await;
    let (unended, ended): (Vec<&Swapped>, Vec<&Swapped>) = closed.iter().partition(|d| unended.contains(&d.oid));
    let uncured = pre_drop::before_rename(backend, connection, &named(ended.iter().copied())).await?;
    let of_oid = |oid: i64| closed.iter().find(|d| d.oid == oid).map(|d| d.id);
    let uncured: Vec<(i64, StepError)> =
        uncured.into_iter().filter_map(|(oid, error)| Some((of_oid(oid)?, error))).collect();
    failed.extend(unended.into_iter().map(|d| (d.id, stuck())));
    failed.extend(uncured);
    Ok(failed)
}

fn named<'a>(databases: impl IntoIterator<Item = &'a Swapped>) -> Vec<(i64, &'a DatabaseName)> {
    databases.into_iter().map(|d| (d.oid, &d.name)).collect()
}

/// Ends the sessions on the databases, and those of their logins elsewhere; returns the oids of those that still have some.
async fn end_all(
    connection: &mut PgConnection,
    databases: &[Swapped],
    patience: Duration,
) -> Result<Vec<i64>, StepError> {
    let oids: Vec<i64> = databases.iter().map(|d| d.oid).collect();
    let logins: Vec<&str> = databases.iter().map(|d| d.login.as_str()).collect();
    end_sessions_and_logins(connection, &oids, &logins, patience).await
}

/// Closes the databases, together or, when one of them cannot be closed, each for itself. Returns those that are closed, and those
/// that are not, with the reason.
async fn close(
    connection: &mut PgConnection,
    end: End,
    ids: &[i64],
) -> Result<(Vec<Swapped>, Vec<(i64, StepError)>), StepError> {
    match close_together(connection, end, ids).await {
        Ok(closed) => return Ok((closed, Vec::new())),
        Err(error @ StepError::Unavailable(_)) => return Err(error),
        Err(error) if ids.len() == 1 => return Ok((Vec::new(), vec![(ids[0], error)])),
        Err(_) => {}
    }
    let (mut closed, mut refused) = (Vec::new(), Vec::new());
    for &id in ids {
        match close_together(connection, end, &[id]).await {
            Ok(one) => closed.extend(one),
            Err(error @ StepError::Unavailable(_)) => return Err(error),
            Err(error) => refused.push((id, error)),
        }
    }
    Ok((closed, refused))
}

async fn close_together(connection: &mut PgConnection, end: End, ids: &[i64]) -> Result<Vec<Swapped>, StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let used: Vec<Swapped> = lock(&mut transaction, ids).await?.into_iter().filter(|d| end.concerns(d)).collect();
    let mut closing = ddl::bound_statements();
    for database in &used {
        if end == End::Lease && database.has_login {
            closing = closing.then(ddl::close_login(&database.login));
        }
        closing = closing.then(ddl::allow_connections(&database.name, false));
    }
    sql(contended::run(&mut transaction, &closing).await)?;
    // Somebody may have renamed ours away and put theirs under its name: theirs is not closed.
    used::check(&mut transaction, &used.iter().map(|d| (d.oid, &d.name)).collect::<Vec<_>>()).await?;
    sql(transaction.commit().await)?;
    Ok(used)
}

/// Fences one database on a connection of its own, so that however long it waits, no other database waits with it.
pub(super) async fn fence_apart(
    backend: &PgBackend,
    connection: &mut PgConnection,
    database: DatabaseId,
) -> Result<(), StepError> {
    let found = take_snapshot(connection, &[database.0]).await?.pop().ok_or_else(|| stale("the database is gone"))?;
    let end = [End::Lease, End::Reset].into_iter().find(|end| end.concerns(&found));
    let end = end.ok_or_else(|| stale("the database has left its slot already"))?;
    let failed = fence(backend, connection, end, &[database.0], PATIENT).await?;
    failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}
