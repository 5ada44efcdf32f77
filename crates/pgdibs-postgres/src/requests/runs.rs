//! Runs: the announcement of a test session, and its end.

use pgdibs_core::error::Error;
use pgdibs_core::lease::{End, LeaseId};
use pgdibs_core::name::Fingerprint;
use pgdibs_core::request::Announce;

use super::{leases, pools, templates};
use crate::context::PgBackend;
use crate::error::Result;
use pgdibs_failpoint::{Failpoint, reach};

pub(crate) async fn announce(backend: &PgBackend, announce: &Announce) -> Result<bool> {
    let pool = pools::find(backend, &announce.pool).await?;
    if let Some(fingerprint) = &announce.fingerprint {
        templates::find_live(backend, &announce.pool, fingerprint).await?;
    }
    let wanted = announce.workers.saturating_mul(announce.aliases);
    pools::refuse_what_can_never_fit(backend, &pool, wanted)?;
    // `xmax` of a row that the statement inserted is 0.
    let announced: Option<bool> = sqlx::query_scalar(
        "with used as (
             update pools set used_at = now() where name = $2 and used_at < now() - interval '10 s')
         insert into announced_runs (run, pool, fingerprint, wanted)
         select $1, $2, $3, $4 where not exists (select from ended_runs where run = $1)
         on conflict (run, pool) do update set fingerprint = $3, wanted = $4, put_at = now()
         returning xmax = 0",
    )
    .bind(&announce.run)
    .bind(announce.pool.as_str())
    .bind(announce.fingerprint.as_ref().map(Fingerprint::as_str))
    .bind(i32::try_from(wanted).unwrap_or(i32::MAX))
    .fetch_optional(&backend.catalog())
    .await?;
    announced.ok_or_else(|| Error::RunEnded(announce.run.clone()).into())
}

/// Ends a run. The end is committed before this reads the run's leases, and waits for acquires of the run that are under way (see
/// `run_goes_on` in the catalog): so this reads their leases, and a later acquire reads the end.
pub(crate) async fn end(backend: &PgBackend, run: &str) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "with locked as materialized (select pg_advisory_xact_lock(1885824114, hashtext($1))),
         announced as (delete from announced_runs where run = $1)
         insert into ended_runs (run) select $1 from locked on conflict (run) do nothing",
    )
    .bind(run)
    .execute(&backend.catalog())
    .await?;
    reach(Failpoint::RunEnded).await;
    let live: Vec<LeaseId> = sqlx::query_scalar("select id from leases where run = $1 and state = 'live'")
        .bind(run)
        .fetch_all(&backend.catalog())
        .await?;
    let released = leases::end_all(&backend.catalog(), &live, End::Released, None, "its run ended").await?;
    Ok(released.unsigned_abs())
}
