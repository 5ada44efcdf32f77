//! The fence: ends everything that the last holder has in a database, and lets nothing of it in again. Only then is the database renamed.
//!
//! The order matters. An open transaction of the tenant may hold the very rows of `pg_database` and `pg_authid` that closing changes (see
//! [`crate::blockers`]), so its sessions are told to end before, and closing waits for those locks, which ended sessions do not have. Sessions
//! that connected until then end after that, and only then the fence waits until none is left.

use std::time::Duration;

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::DatabaseName;
use sqlx::postgres::PgConnection;

use super::row::{self, DatabaseRow};
use super::sessions::{PATIENT, end_rest, terminate};
use super::step_context::StepContext;
use super::{contended, pre_drop};
use crate::ddl;
use crate::error::{PgError, Result, stale, stuck};
use pgdibs_failpoint::{Failpoint, reach};

/// Which used databases a fence is for, and so what else it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The lease has ended: its login closes as well.
    Lease,
    /// The lease is being reset, and keeps its login.
    Reset,
}

impl End {
    fn concerns(self, database: &DatabaseRow) -> bool {
        match self {
            Self::Lease => database.is_leaving(),
            Self::Reset => database.state == "leased" && database.resetting,
        }
    }

    fn failpoints(self) -> [Failpoint; 2] {
        match self {
            Self::Lease => [Failpoint::ReturnClosed, Failpoint::ReturnFenced],
            Self::Reset => [Failpoint::ResetClosed, Failpoint::ResetFenced],
        }
    }
}

/// Databases that a fence could not close, each with the reason.
type Failed = Vec<(i64, StepError)>;

/// Fences databases. Returns those that failed; each of the others has no session and no login that can connect. `patience` limits each
/// wait for sessions to end.
pub(super) async fn fence(ctx: &mut StepContext<'_>, end: End, ids: &[i64], patience: Duration) -> Result<Failed> {
    let mut found = row::read(ctx.connection, ids).await?;
    found.retain(|d| end.concerns(d));
    let (oids, logins) = oids_and_logins(&found);
    let terminated = !terminate(ctx.connection, &oids, &logins).await?.is_empty();
    pre_drop::roll_back_all(ctx, &named(&found)).await?;
    let (closed, mut failed) = close(ctx.connection, end, found).await?;
    let [point_closed, point_fenced] = end.failpoints();
    reach(point_closed).await;
    let (oids, logins) = oids_and_logins(&closed);
    let with_sessions = end_rest(ctx.connection, &oids, &logins, terminated, patience).await?;
    reach(point_fenced).await;
    let (stuck_ones, ended): (Vec<&DatabaseRow>, Vec<&DatabaseRow>) =
        closed.iter().partition(|d| with_sessions.contains(&d.oid));
    failed.extend(stuck_ones.into_iter().map(|d| (d.id, stuck().into())));
    for (oid, error) in pre_drop::before_rename(ctx, &named(ended.iter().copied())).await? {
        failed.extend(ended.iter().find(|d| d.oid == oid).map(|d| (d.id, error)));
    }
    Ok(failed)
}

fn named<'a>(databases: impl IntoIterator<Item = &'a DatabaseRow>) -> Vec<(i64, &'a DatabaseName)> {
    databases.into_iter().map(|d| (d.oid, &d.name)).collect()
}

fn oids_and_logins(databases: &[DatabaseRow]) -> (Vec<i64>, Vec<&str>) {
    databases.iter().map(|d| (d.oid, d.login.name.as_str())).unzip()
}

/// Closes the databases, together or, when that fails, one by one. Returns those that are closed, and those that are not.
async fn close(
    connection: &mut PgConnection,
    end: End,
    used: Vec<DatabaseRow>,
) -> Result<(Vec<DatabaseRow>, Failed), StepError> {
    if used.len() > 1 {
        match close_together(connection, end, &used).await {
            Ok(()) => return Ok((used, Vec::new())),
            Err(error @ StepError::Unavailable(_)) => return Err(error),
            Err(_) => {}
        }
    }
    let (mut closed, mut failed) = (Vec::new(), Vec::new());
    for one in used {
        match close_together(connection, end, std::slice::from_ref(&one)).await {
            Ok(()) => closed.push(one),
            Err(error @ StepError::Unavailable(_)) => return Err(error),
            Err(error) => failed.push((one.id, error)),
        }
    }
    Ok((closed, failed))
}

async fn close_together(connection: &mut PgConnection, end: End, used: &[DatabaseRow]) -> Result<(), StepError> {
    if used.is_empty() {
        return Ok(());
    }
    let expected: Vec<_> = used.iter().map(|d| (d.id, &d.name, d.state.as_str())).collect();
    let mut closing = ddl::expect_databases(&expected);
    for database in used {
        if end == End::Lease && database.has_login {
            closing = closing.then(ddl::close_login(&database.login.name));
        }
        closing = closing.then(ddl::allow_connections(&database.name, false));
    }
    // An administrator may have renamed the database and put another one under its name, which stays open.
    let by_id: Vec<_> = used.iter().map(|d| (d.id, &d.name)).collect();
    contended::run_at_once(connection, closing.then(ddl::expect_oids(&by_id))).await.map_err(PgError::from)?;
    Ok(())
}

/// Fences one database on a connection of its own, so that no other database waits for its sessions.
pub(super) async fn fence_apart(ctx: &mut StepContext<'_>, database: DatabaseId) -> Result<()> {
    let found = row::read_one(ctx.connection, database.0).await?.ok_or_else(|| stale("the database was deleted"))?;
    let end = [End::Lease, End::Reset].into_iter().find(|end| end.concerns(&found));
    let end = end.ok_or_else(|| stale("the database has left its slot already"))?;
    let mut failed = fence(ctx, end, &[database.0], PATIENT).await?;
    failed.pop().map_or(Ok(()), |(_, error)| Err(error.into()))
}
