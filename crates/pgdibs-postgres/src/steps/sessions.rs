//! Sessions: ends those of databases and logins, and waits until they have ended. Only then may DDL run.
//!
//! Postgres itself polls for other sessions in steps of 100 ms (`CountOtherDBBackends`), so DDL one millisecond early costs a hundred.
//! Sessions are found by `datid`, never by name: names pass from one database to the next.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use crate::context::blocking;
use crate::error::{Result, stuck};

/// Longest wait for sessions to end; a backend that does not react for this long is stuck, and the step is retried later.
pub(super) const PATIENT: Duration = Duration::from_secs(2);

/// The same on the reconciler's own connection, where all other swaps wait. What takes longer gets a `Fence` of its own.
pub(super) const BRIEF: Duration = Duration::from_millis(250);

const POLL: Duration = Duration::from_micros(400);

/// A backend leaves `pg_stat_activity` slightly before it leaves the list that RENAME and DROP read (`ProcArray`).
const AFTER_THE_LAST: Duration = Duration::from_micros(400);

/// Ends every session on these databases; returns the oids that still have one at the end of the wait.
///
/// Without superuser rights the daemon cannot end a superuser's session, and one refusal would spare all the others: it waits for those. An
/// autovacuum worker has no user; Postgres ends it itself before the DDL.
pub(crate) async fn end_sessions(connection: &mut PgConnection, oids: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
    end_sessions_and_logins(connection, oids, &[], PATIENT).await
}

/// The same, and the sessions that these logins have elsewhere: in a database that is open to PUBLIC, or that they created. It does not wait
/// for those, since they are not in the way of the DDL.
pub(super) async fn end_sessions_and_logins(
    connection: &mut PgConnection,
    oids: &[i64],
    logins: &[&str],
    patience: Duration,
) -> Result<Vec<i64>, sqlx::Error> {
    end_rest(connection, oids, logins, false, patience).await
}

/// The same. `terminated`: some were told to end before, by [`terminate`], and may be about to leave.
pub(super) async fn end_rest(
    connection: &mut PgConnection,
    oids: &[i64],
    logins: &[&str],
    terminated: bool,
    patience: Duration,
) -> Result<Vec<i64>, sqlx::Error> {
    let mut left = terminate(connection, oids, logins).await?;
    if left.is_empty() && !terminated {
        return Ok(left);
    }
    let deadline = Instant::now() + patience;
    while !left.is_empty() && Instant::now() < deadline {
        short_sleep(POLL).await?;
        left = sqlx::query_scalar(
            "select distinct datid::int8 from pg_stat_activity
             where datid::int8 = any($1) and (usesysid is not null or (select rolsuper from pg_roles where rolname = current_user))",
        )
        .bind(oids)
        .fetch_all(&mut *connection)
        .await?;
    }
    short_sleep(AFTER_THE_LAST).await?;
    Ok(left)
}

/// Tells the same sessions to end, and waits for none. Returns the oids of the databases that have some.
pub(super) async fn terminate(
    connection: &mut PgConnection,
    oids: &[i64],
    logins: &[&str],
) -> Result<Vec<i64>, sqlx::Error> {
    if oids.is_empty() && logins.is_empty() {
        return Ok(Vec::new());
    }
    let mut left: Vec<i64> = sqlx::query_scalar(
        "select coalesce(datid, 0)::int8 from (
             select a.datid, case when me.rolsuper or (not r.rolsuper
                        and (pg_has_role(r.oid, 'usage') or pg_has_role('pg_signal_backend', 'usage')))
                    then pg_terminate_backend(a.pid) end
             from pg_stat_activity a join pg_roles me on me.rolname = current_user left join pg_roles r on r.oid = a.usesysid
             where (a.datid::int8 = any($1) or a.usename = any($2::name[])) and a.pid <> pg_backend_pid() and (r.oid is not null or me.rolsuper)
         ) ended",
    )
    .bind(oids)
    .bind(logins)
    .fetch_all(&mut *connection)
    .await?;
    left.retain(|oid| oids.contains(oid));
    Ok(left)
}

/// Ends every session on one database; an error when one is left.
pub(super) async fn end_all_sessions(connection: &mut PgConnection, oid: i64) -> Result<()> {
    if end_sessions(connection, &[oid]).await?.is_empty() { Ok(()) } else { Err(stuck()) }
}

/// Ends every session of these logins, in any database; an error when one is left. Otherwise a session could outlive its role: it has no
/// name on the server then, and goes on acting as the pool's owner. Returns whether one of the logins is a superuser.
pub(super) async fn end_sessions_of(connection: &mut PgConnection, logins: &[&str]) -> Result<bool> {
    let deadline = Instant::now() + PATIENT;
    loop {
        let (left, has_superuser): (i64, bool) = sqlx::query_as(
            "select count(pg_terminate_backend(pid)), exists (select from pg_roles where rolname = any($1::name[]) and rolsuper)
             from pg_stat_activity where usename = any($1::name[])",
        )
        .bind(logins)
        .fetch_one(&mut *connection)
        .await?;
        if left == 0 {
            return Ok(has_superuser);
        }
        if Instant::now() >= deadline {
            return Err(stuck());
        }
        short_sleep(POLL).await?;
    }
}

/// Tokio's timer counts whole milliseconds and rounds up; the system's clock counts microseconds.
async fn short_sleep(duration: Duration) -> Result<(), sqlx::Error> {
    // In a thread that no task waits for.
    blocking(move || std::thread::sleep(duration)).await
}
