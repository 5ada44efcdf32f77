//! Sessions: ends those of databases and logins, and waits until they are gone. Only then may DDL be issued.
//!
//! Postgres itself polls for stragglers in steps of 100 ms (`CountOtherDBBackends`), so DDL one millisecond early costs a
//! hundred. Sessions are told by `datid`, never by name: names pass from one database to the next.

use std::time::Duration;

use pgdibs_core::error::StepError;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::outcome::sql;

/// Longest wait for sessions to end; a backend that does not react for this long is stuck, and the step is tried again later.
pub(super) const PATIENT: Duration = Duration::from_secs(2);

/// The same on the reconciler's own connection, where every other swap waits meanwhile. What takes longer gets a `Fence` of its own.
pub(super) const BRIEF: Duration = Duration::from_millis(250);

const POLL: Duration = Duration::from_micros(400);

/// A backend leaves `pg_stat_activity` slightly before it leaves the list that RENAME and DROP look at (`ProcArray`).
const AFTER_THE_LAST: Duration = Duration::from_micros(400);

/// Ends every session on these databases; returns the oids that still have one when the time is up.
///
/// Without superuser rights some sessions are not ours to end: a superuser's, and one refusal would spare all the others. Those
/// are waited for. An autovacuum worker belongs to nobody; Postgres ends it itself before the DDL.
pub(crate) async fn end_sessions(connection: &mut PgConnection, oids: &[i64]) -> Result<Vec<i64>, StepError> {
    end_sessions_and_logins(connection, oids, &[], PATIENT).await
}

/// The same, and the sessions that these logins have elsewhere: in a database that lets everybody in, or that they made themselves.
/// Those are not waited for, since nothing of ours stands in their way.
pub(super) async fn end_sessions_and_logins(
    connection: &mut PgConnection,
    oids: &[i64],
    logins: &[&str],
    patience: Duration,
) -> Result<Vec<i64>, StepError> {
    if oids.is_empty() && logins.is_empty() {
        return Ok(Vec::new());
    }
    let mut left: Vec<i64> = sql(sqlx::query_scalar(
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
    .await)?;
    left.retain(|oid| oids.contains(oid));
    if left.is_empty() {
        return Ok(left);
    }
    let deadline = Instant::now() + patience;
    while !left.is_empty() && Instant::now() < deadline {
        short_sleep(POLL).await?;
        left =
            sql(sqlx::query_scalar(
                "select distinct datid::int8 from pg_stat_activity
                 where datid::int8 = any($1) and (usesysid is not null or (select rolsuper from pg_roles where rolname = current_user))",
            )
            .bind(oids)
            .fetch_all(&mut *connection)
            .await)?;
    }
    short_sleep(AFTER_THE_LAST).await?;
    Ok(left)
}

/// Ends every session of these logins, wherever it is; an error when one is left. Without this, a session could outlive its role: the
/// server knows it by no name then, and it goes on acting as the pool's owner.
pub(super) async fn end_sessions_of(connection: &mut PgConnection, logins: &[&str]) -> Result<(), StepError> {
    let deadline = Instant::now() + PATIENT;
    loop {
        let left: i64 = sql(sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = any($1::name[])",
        )
        .bind(logins)
        .fetch_one(&mut *connection)
        .await)?;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(super::outcome::stuck());
        }
        short_sleep(POLL).await?;
    }
}

/// The timer of tokio counts whole milliseconds, and rounds up.
async fn short_sleep(duration: Duration) -> Result<(), StepError> {
    // In a thread of its own, because the system's clock is what counts microseconds.
    let stalled_for = tokio::task::spawn_blocking(move || std::thread::sleep(duration)).await;
    stalled_for.map_err(|error| StepError::Failed(error.to_string()))
}
