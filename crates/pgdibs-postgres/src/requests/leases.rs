//! Leases after they were granted: renew, end, reset, look up.

use pgdibs_core::error::Error;
use pgdibs_core::lease::{End, Lease, LeaseId, LeaseState};
use pgdibs_core::name::Fingerprint;
use pgdibs_core::request::{ResetBegun, TargetTemplate, TicketId};
use pgdibs_core::template::TemplateId;
use sqlx::Row as _;

use crate::context::{PgBackend, answer};
use crate::failpoint::{Point, reach};
use crate::rows::{self, lease_columns};
use crate::shared_sql::living_daemons;
use crate::sqlstate::{self, Meaning};

pub(crate) async fn find(backend: &PgBackend, id: LeaseId) -> Result<Lease, Error> {
    let row = answer(
        sqlx::query(concat!(
            "select ",
            lease_columns!(),
            " from leases l left join databases d on d.id = l.database_id where l.id = $1"
        ))
        .bind(id)
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    match row {
        Some(row) => answer(rows::lease(&row)),
        None => Err(Error::LeaseNotFound(id.to_string())),
    }
}

/// Leases that ended within the last 24 hours, newest first, at most 1000.
pub(crate) async fn ended(backend: &PgBackend) -> Result<Vec<Lease>, Error> {
    let rows = answer(
        sqlx::query(concat!(
            "select ",
            lease_columns!(),
            " from leases l left join databases d on d.id = l.database_id where l.state <> 'live' order by l.ended_at desc limit 1000"
        ))
        .fetch_all(&backend.connections.catalog)
        .await,
    )?;
    answer(rows.iter().map(rows::lease).collect())
}

/// The answer to renew, reset and keep on a lease that is over, or that never was.
pub(crate) async fn over(backend: &PgBackend, id: LeaseId) -> Error {
    match find(backend, id).await {
        Err(error) => error,
        Ok(lease) if lease.state == LeaseState::Live => {
            Error::ServerUnavailable("the lease changes at this moment; ask again".to_owned())
        }
        Ok(lease) => Error::LeaseEnded {
            id: id.to_string(),
            state: lease.state,
            ended: lease.ended_at.map_or_else(String::new, |at| format!("{:.3} (unix time)", at.0 as f64 / 1e6)),
            reason: lease.ended_reason.unwrap_or_default(),
            at: lease.ended_at,
        },
    }
}

pub(crate) async fn renew(backend: &PgBackend, id: LeaseId, ttl_seconds: Option<u64>) -> Result<Lease, Error> {
    let row = answer(
        sqlx::query(concat!(
            "with l as (
                 update leases set renewals = renewals + 1, renewed_at = now(), ttl_seconds = coalesce($2, ttl_seconds)
                 where id = $1 and state = 'live' returning *)
             select ",
            lease_columns!(),
            " from l join databases d on d.id = l.database_id"
        ))
        .bind(id)
        .bind(ttl_seconds.and_then(|seconds| i32::try_from(seconds).ok()))
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    match row {
        Some(row) => answer(rows::lease(&row)),
        None => Err(over(backend, id).await),
    }
}

/// Ends a lease and lets its database retire, in one statement. A reset in progress is called off: its spare is still a spare.
pub(crate) async fn end(backend: &PgBackend, id: LeaseId, end: End, reason: &str) -> Result<bool, Error> {
    let ended = answer(
        sqlx::query(
            "with ended as (
                 update leases set state = $2, ended_at = now(), ended_reason = $3, reset_to = null
                 where id = $1 and state = 'live' returning database_id),
             used as (
                 update databases d set state = case when d.keep_until > now() then 'kept' else 'retiring' end,
                     reason = 'its lease was ' || $2
                 from ended where d.id = ended.database_id and d.state = 'leased')
             select database_id from ended",
        )
        .bind(id)
        .bind(end.state().as_str())
        .bind(reason)
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    if ended.is_some() {
        reach(Point::ReleaseCommitted).await;
        return Ok(true);
    }
    find(backend, id).await.map(|_| false)
}

/// Reserves a spare for a reset. The reservation counts as a renewal; from here on the lease does not expire until the swap is done.
pub(crate) async fn begin_reset(
    backend: &PgBackend,
    id: LeaseId,
    discard: Option<u32>,
    ticket: Option<TicketId>,
) -> Result<ResetBegun, Error> {
    let row = loop {
        let reserving = sqlx::query(concat!(
            "with ahead as (
                 select coalesce(sum(t.count), 0) as places from tickets t
                 join leases l on l.id = $1 and l.template_id = t.template_id
                 where t.kind = 'reset' and t.id < $3
                   and (t.daemon = $4 or t.daemon::int8 in (",
            living_daemons!(),
            "))),
             spares as (
                 select d.id from databases d join leases l on l.id = $1 and d.template_id = l.template_id
                 where d.state = 'spare' and coalesce(d.retry_at <= now(), true)
                   and not exists (select from leases r where r.reset_to = d.id)
                   and coalesce(pg_stat_get_db_sessions(d.oid::oid), 0) = 0),
             spare as (
                 select d.id from databases d, ahead
                 where d.id in (select id from spares) and (select count(*) from spares) > ahead.places and d.state = 'spare'
                   and exists (select from leases l where l.id = $1 and l.state = 'live' and l.reset_to is null
                               and l.generation = coalesce($2, l.generation))
                 order by d.id limit 1 for update of d skip locked),
             reserved as (
                 update leases set reset_to = spare.id, renewals = renewals + 1, renewed_at = now()
                 from spare where leases.id = $1 and leases.state = 'live' and leases.reset_to is null
                   and leases.generation = coalesce($2, leases.generation)
                 returning leases.generation + 1 as generation)
             select (select generation from reserved) as reserved, l.state, l.generation, l.reset_to is not null as resetting,
                    l.pool, l.template_id, l.fingerprint
             from leases l where l.id = $1",
        ))
        .bind(id)
        .bind(discard.and_then(|generation| i32::try_from(generation).ok()))
        .bind(ticket.map_or(i64::MAX, |t| t.0))
        .bind(backend.connections.instance)
        .fetch_optional(&backend.connections.catalog);
        match reserving.await {
            // Another reset reserved this very spare after our statement had begun: its row is locked meanwhile but not changed, so
            // only the unique index tells. Each time somebody else has got one, so this ends.
            Err(error) if sqlstate::meaning(&error) == Meaning::Exists => {}
            result => break answer(result)?,
        }
    };
    let Some(row) = row else { return Err(Error::LeaseNotFound(id.to_string())) };
    if let Some(generation) = answer(row.try_get::<Option<i32>, _>("reserved"))? {
        reach(Point::ResetReserved).await;
        return Ok(ResetBegun::Reserved { generation: u32::try_from(generation).unwrap_or(u32::MAX) });
    }
    if answer(row.try_get::<&str, _>("state"))? != "live" {
        return Err(over(backend, id).await);
    }
    let generation = u32::try_from(answer(row.try_get::<i32, _>("generation"))?).unwrap_or(u32::MAX);
    // The generation to leave behind is behind already, or a swap that leaves it is under way: a repeated call.
    if discard.is_some_and(|discard| discard < generation) {
        return find(backend, id).await.map(|lease| ResetBegun::Already(Box::new(lease)));
    }
    if discard.is_some_and(|discard| discard > generation) {
        return Err(Error::Invalid(pgdibs_core::name::InvalidName {
            field: "generation",
            rule: format!("names the generation to leave behind; this lease is at {generation}"),
        }));
    }
    if answer(row.try_get::<bool, _>("resetting"))? {
        return Ok(ResetBegun::Reserved { generation: generation + 1 });
    }
    let pool: String = answer(row.try_get("pool"))?;
    let fingerprint: String = answer(row.try_get("fingerprint"))?;
    Ok(ResetBegun::Wait(TargetTemplate {
        pool: pgdibs_core::name::PoolName::parse(&pool)?,
        template: TemplateId(answer(row.try_get("template_id"))?),
        fingerprint: Fingerprint::parse(&fingerprint)?,
        building: false,
    }))
}
