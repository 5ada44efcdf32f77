//! Leases after their grant: find, renew, end, reset.

use pgdibs_core::error::Error;
use pgdibs_core::lease::{End, Lease, LeaseId, LeaseState};
use pgdibs_core::name::InvalidName;
use pgdibs_core::request::{ResetBegun, TicketId};
use pgdibs_core::template::no_clone;
use sqlx::{PgExecutor, Row as _};

use crate::context::PgBackend;
use crate::error::{PgError, Result};
use crate::rows::{self, Columns as _};
use crate::sqlstate::{self, ErrorClass};
use pgdibs_failpoint::{Failpoint, reach};

pub(crate) async fn find(backend: &PgBackend, id: LeaseId) -> Result<Lease> {
    let lease = sqlx::query("select * from lease_details where id = $1").bind(id).try_map(rows::lease);
    let lease = lease.fetch_optional(&backend.catalog()).await?;
    lease.ok_or_else(|| Error::LeaseNotFound(id.to_string()).into())
}

/// Leases that ended within the last 24 hours, newest first, at most 1000.
pub(crate) async fn ended(backend: &PgBackend) -> Result<Vec<Lease>, sqlx::Error> {
    sqlx::query("select * from lease_details where state <> 'live' order by ended_at desc limit 1000")
        .try_map(rows::lease)
        .fetch_all(&backend.catalog())
        .await
}

/// Why renew, reset and keep find no live lease.
pub(crate) async fn over(backend: &PgBackend, id: LeaseId) -> PgError {
    match find(backend, id).await {
        Err(error) => error,
        Ok(lease) if lease.state == LeaseState::Live => {
            Error::ServerUnavailable("the lease changes at this moment; ask again".to_owned()).into()
        }
        Ok(lease) => Error::LeaseEnded {
            id: id.to_string(),
            state: lease.state,
            ended: lease.ended_at.map_or_else(String::new, |at| format!("{:.3} (unix time)", at.0 as f64 / 1e6)),
            reason: lease.ended_reason.unwrap_or_default(),
            at: lease.ended_at,
        }
        .into(),
    }
}

pub(crate) async fn renew(backend: &PgBackend, id: LeaseId, ttl_seconds: Option<u64>) -> Result<Lease> {
    let lease = sqlx::query(
        "with l as (
             update leases set renewals = renewals + 1, renewed_at = now(), ttl_seconds = coalesce($2, ttl_seconds)
             where id = $1 and state = 'live'
             returning id, pool, fingerprint, template_id, database_id, database_name, slot, run, worker, alias, holder, state, generation,
                 ttl_seconds, renewals, reset_to, acquired_at, renewed_at, ended_at, ended_reason, shared_login, shared_password)
         select l.*, coalesce(shared_login, login) as login, coalesce(shared_password, password) as password
         from l join databases d on d.id = l.database_id",
    )
    .bind(id)
    .bind(ttl_seconds.and_then(|seconds| i32::try_from(seconds).ok()))
    .try_map(rows::lease)
    .fetch_optional(&backend.catalog())
    .await?;
    match lease {
        Some(lease) => Ok(lease),
        None => Err(over(backend, id).await),
    }
}

/// Ends those of the leases that are live (and have this number of renewals); returns how many.
pub(crate) async fn end_all(
    catalog: impl PgExecutor<'_>,
    ids: &[LeaseId],
    end: End,
    renewals: Option<u64>,
    reason: &str,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(include_str!("../../sql/end_leases.sql"))
        .bind(ids)
        .bind(end.state().as_str())
        .bind(reason)
        .bind(renewals.map(|renewals| i64::try_from(renewals).unwrap_or(i64::MAX)))
        .fetch_one(catalog)
        .await
}

pub(crate) async fn end(backend: &PgBackend, id: LeaseId, end: End, reason: &str) -> Result<bool> {
    let mut lent = backend.connections.catalog.lend().await?;
    let ended = end_all(&mut *lent.connection, &[id], end, None, reason).await?;
    lent.give_back();
    if ended > 0 {
        reach(Failpoint::ReleaseCommitted).await;
        return Ok(true);
    }
    find(backend, id).await.map(|_| false)
}

/// Reserves a spare for a reset. From then on the lease does not expire until the swap is done.
pub(crate) async fn begin_reset(
    backend: &PgBackend,
    id: LeaseId,
    discard: Option<u32>,
    ticket: Option<TicketId>,
) -> Result<ResetBegun> {
    let catalog = backend.catalog();
    let row = loop {
        let reserving = sqlx::query(include_str!("../../sql/begin_reset.sql"))
            .bind(id)
            .bind(discard.and_then(|generation| i32::try_from(generation).ok()))
            .bind(ticket.map_or(i64::MAX, |t| t.0))
            .bind(backend.instance())
            .fetch_optional(&catalog);
        match reserving.await {
            // A concurrent reset reserved this very spare after the statement's snapshot: it locks the spare's row but does not change
            // it, so only the unique index tells. Each time another reset has succeeded, so the loop ends.
            Err(error) if sqlstate::class(&error) == ErrorClass::Exists => {}
            result => break result?.ok_or_else(|| Error::LeaseNotFound(id.to_string()))?,
        }
    };
    if let Some(generation) = row.maybe_number("reserved")? {
        reach(Failpoint::ResetReserved).await;
        return Ok(ResetBegun::Reserved { generation });
    }
    if row.try_get::<&str, _>("state")? != "live" {
        return Err(over(backend, id).await);
    }
    let generation: u32 = row.number("generation")?;
    // A repeated request: the generation to replace is replaced already, or its swap is in progress.
    if discard.is_some_and(|discard| discard < generation) {
        return find(backend, id).await.map(|lease| ResetBegun::Already(Box::new(lease)));
    }
    if discard.is_some_and(|discard| discard > generation) {
        return Err(PgError::from(InvalidName {
            field: "generation",
            rule: format!("names the generation to leave behind; this lease is at {generation}"),
        }));
    }
    if row.try_get("resetting")? {
        return Ok(ResetBegun::Reserved { generation: generation + 1 });
    }
    let wanted = rows::wanted(&row, false)?;
    if let Some(why) = row.try_get::<Option<String>, _>("lost")? {
        let what = format!("template \"{}\" of the lease makes no clones any more: {why}", wanted.fingerprint);
        return Err(Error::TemplateNotFound(what).into());
    }
    match row.try_get::<Option<String>, _>("clone_error")? {
        Some(error) => Err(Error::TemplateFailed(no_clone(wanted.fingerprint.as_str(), &error)).into()),
        None => Ok(ResetBegun::Wait(wanted)),
    }
}
