//! Runs: what a test session announces, and its end.

use pgdibs_core::error::Error;
use pgdibs_core::request::Announce;

use super::{pools, templates};
use crate::context::{PgBackend, answer};
use crate::failpoint::{Point, reach};

pub(crate) async fn announce(backend: &PgBackend, announce: &Announce) -> Result<(), Error> {
    let pool = pools::find(backend, &announce.pool).await?;
    if let Some(fingerprint) = &announce.fingerprint {
        templates::find_live(backend, &announce.pool, fingerprint).await?;
    }
    let wanted = announce.workers.saturating_mul(announce.aliases);
    pools::refuse_what_can_never_fit(backend, &pool, wanted)?;
    let ended: bool = answer(
        sqlx::query_scalar(
            "with entry as (
                 insert into announced_runs (run, pool, fingerprint, wanted)
                 select $1, $2, $3, $4 where not exists (select from ended_runs where run = $1)
                 on conflict (run, pool) do update set fingerprint = $3, wanted = $4, put_at = now()
                 returning 1)
             select not exists (select from entry)",
        )
        .bind(&announce.run)
        .bind(announce.pool.as_str())
        .bind(announce.fingerprint.as_ref().map(pgdibs_core::name::Fingerprint::as_str))
        .bind(i32::try_from(wanted).unwrap_or(i32::MAX))
        .fetch_one(&backend.connections.catalog)
        .await,
    )?;
    if ended { Err(Error::RunEnded(announce.run.clone())) } else { Ok(()) }
}

/// Ends a run. The end is committed before its leases are looked for, and an acquire looks for the end after it has committed
/// its lease: so one of the two sees the other.
pub(crate) async fn end(backend: &PgBackend, run: &str) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "with announced as (delete from announced_runs where run = $1)
         insert into ended_runs (run) values ($1) on conflict (run) do nothing",
    )
    .bind(run)
    .execute(&backend.connections.catalog)
    .await?;
    reach(Point::RunEnded).await;
    let released: i64 = sqlx::query_scalar(
        "with ended as (
             update leases set state = 'released', ended_at = now(), ended_reason = 'its run ended', reset_to = null
             where run = $1 and state = 'live' returning database_id),
         used as (
             update databases d set state = case when d.keep_until > now() then 'kept' else 'retiring' end,
                 reason = 'its lease was released'
             from ended where d.id = ended.database_id and d.state = 'leased')
         select count(*) from ended",
    )
    .bind(run)
    .fetch_one(&backend.connections.catalog)
    .await?;
    Ok(u64::try_from(released).unwrap_or(0))
}

pub(crate) async fn has_ended(backend: &PgBackend, run: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from ended_runs where run = $1)")
        .bind(run)
        .fetch_one(&backend.connections.catalog)
        .await
}
