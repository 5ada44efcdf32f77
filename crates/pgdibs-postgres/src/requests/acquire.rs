//! Acquire: one statement leases a ready database, in the order of tickets. No slow work precedes it.

use pgdibs_core::error::Error;
use pgdibs_core::lease::Lease;
use pgdibs_core::name::{Fingerprint, preferred_slot};
use pgdibs_core::request::{Acquire, Acquired, TargetTemplate, TicketId};
use pgdibs_core::template::{TemplateId, no_clone};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::choose_template::{choose_template, no_template};
use super::pools;
use crate::context::PgBackend;
use crate::error::Result;
use crate::rows::{self, Columns as _};
use crate::sqlstate::{self, ErrorClass};
use pgdibs_failpoint::{Failpoint, reach};

/// The outcome of one request inside a transaction that may still be rolled back.
enum Outcome {
    Granted(Box<Lease>),
    /// No database is free; the template, if it is ready.
    Wait(Option<TargetTemplate>),
    /// Enough databases are free beside those for the waiters, but a concurrent newcomer may count the same ones.
    Contested(TemplateId),
    /// The key has a live lease.
    Held,
    RunEnded,
}

/// The leases of all requests, or the request that got none.
type Attempt<'a> = Result<Vec<Lease>, (&'a Acquire, Outcome)>;

pub(crate) async fn acquire(backend: &PgBackend, requests: &[Acquire], ticket: Option<TicketId>) -> Result<Acquired> {
    let attempt = match requests {
        [request] => acquire_single(backend, request, ticket).await?,
        _ => acquire_batch(backend, requests, ticket).await?,
    };
    let request = match attempt {
        Ok(leases) => {
            reach(Failpoint::AcquireCommitted).await;
            return Ok(Acquired::Granted(leases));
        }
        Err((request, Outcome::RunEnded)) => {
            return Err(Error::RunEnded(request.run.clone().unwrap_or_default()).into());
        }
        Err((_, Outcome::Wait(Some(wanted)))) => return Ok(Acquired::Wait(wanted)),
        Err((request, Outcome::Held)) => {
            if let Some(leases) = held_by_all(backend, requests).await? {
                return Ok(Acquired::Existing(leases));
            }
            request
        }
        Err((request, _)) => request,
    };
    resolve(backend, request).await.map(Acquired::Wait)
}

async fn acquire_single<'a>(
    backend: &PgBackend,
    request: &'a Acquire,
    ticket: Option<TicketId>,
) -> Result<Attempt<'a>> {
    let mut lent = backend.connections.catalog.lend().await?;
    let outcome = acquire_one(backend, &mut lent.connection, request, None, 1, ticket, ticket.is_some()).await?;
    if matches!(outcome, Outcome::Held) {
        // Until the server has released the locks of the failed statement, other requests would skip the database.
        lent.connection.ping().await?;
    }
    lent.give_back();
    match outcome {
        Outcome::Granted(lease) => Ok(Ok(vec![*lease])),
        Outcome::Contested(template) => acquire_in_turn(backend, request, template).await,
        outcome => Ok(Err((request, outcome))),
    }
}

/// Acquires as a newcomer while others wait. Concurrent newcomers would each count the databases that are left beside the waiters, and
/// together take too many, so each waits for the other's commit and counts after it.
async fn acquire_in_turn<'a>(backend: &PgBackend, request: &'a Acquire, template: TemplateId) -> Result<Attempt<'a>> {
    let mut transaction = backend.transaction().await?;
    lock_out_newcomers(&mut transaction, &[template.0]).await?;
    match acquire_one(backend, &mut transaction, request, Some(template), 1, None, true).await? {
        Outcome::Granted(lease) => {
            transaction.commit().await?;
            Ok(Ok(vec![*lease]))
        }
        outcome => {
            transaction.rollback().await?;
            Ok(Err((request, outcome)))
        }
    }
}

/// Until the end of the transaction. The lock does not conflict with reads of the templates nor with foreign keys to them.
async fn lock_out_newcomers(connection: &mut PgConnection, templates: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("select from templates where id = any($1) order by id for no key update")
        .bind(templates)
        .execute(connection)
        .await?;
    Ok(())
}

/// Grants all the requests or none, in one transaction. A key that holds a lease keeps it, and takes no database.
async fn acquire_batch<'a>(
    backend: &PgBackend,
    requests: &'a [Acquire],
    ticket: Option<TicketId>,
) -> Result<Attempt<'a>> {
    let mut plan = Vec::with_capacity(requests.len());
    for request in requests {
        plan.push((request, held_by(backend, request).await?, None));
    }
    if let (Some(request), true) = (requests.first(), plan.iter().all(|(_, held, _)| held.is_some())) {
        return Ok(Err((request, Outcome::Held)));
    }
    for (request, _, template) in plan.iter_mut().filter(|(_, held, _)| held.is_none()) {
        let wanted = resolve(backend, request).await?;
        if wanted.building {
            return Ok(Err((request, Outcome::Wait(Some(wanted)))));
        }
        *template = Some(wanted.template);
    }
    for request in requests {
        let count = requests.iter().filter(|other| other.pool == request.pool).count();
        let pool = pools::find(backend, &request.pool).await?;
        pools::refuse_what_can_never_fit(backend, &pool, u32::try_from(count).unwrap_or(u32::MAX))?;
    }
    let mut transaction = backend.transaction().await?;
    let templates: Vec<Option<TemplateId>> = plan.iter().map(|(_, _, template)| *template).collect();
    if ticket.is_none() {
        let ids: Vec<i64> = templates.iter().flatten().map(|template| template.0).collect();
        lock_out_newcomers(&mut transaction, &ids).await?;
    }
    let mut leases = Vec::with_capacity(requests.len());
    for (index, (request, held, template)) in plan.into_iter().enumerate() {
        if let Some(lease) = held {
            leases.push(lease);
            continue;
        }
        let remaining = templates[index..].iter().filter(|other| **other == template).count();
        match acquire_one(backend, &mut transaction, request, template, remaining, ticket, true).await? {
            Outcome::Granted(lease) => {
                leases.push(*lease);
                reach(Failpoint::AcquireHalfOfBatch).await;
            }
            outcome => {
                transaction.rollback().await?;
                return Ok(Err((request, outcome)));
            }
        }
    }
    transaction.commit().await?;
    Ok(Ok(leases))
}

/// The template that a request means, for a caller that has to wait for it; without a lock, so the acquiring statement checks again.
async fn resolve(backend: &PgBackend, request: &Acquire) -> Result<TargetTemplate> {
    let fingerprint = match &request.fingerprint {
        Some(fingerprint) => fingerprint.clone(),
        None => choose_template(backend, &request.pool, request.run.as_deref()).await?,
    };
    let row = sqlx::query(include_str!("../../sql/wanted_template.sql"))
        .bind(request.pool.as_str())
        .bind(fingerprint.as_str())
        .fetch_optional(&backend.catalog())
        .await?
        .ok_or_else(|| Error::pool_not_found(&request.pool))?;
    if row.try_get::<Option<i64>, _>("template_id")?.is_none() {
        return Err(no_template(backend, &request.pool, Some(&fingerprint)).await?.into());
    }
    Ok(rows::wanted(&row, row.try_get("building")?)?)
}

/// Acquires one ready database for a request (of `template`, or of the one with its fingerprint), if enough are left for the waiters
/// with earlier tickets. `in_turn`: the caller has a ticket, or the lock of [`lock_out_newcomers`]; without either, it gets a database
/// only when no one waits. `remaining` is how many databases of this template the caller wants, this one included.
async fn acquire_one(
    backend: &PgBackend,
    connection: &mut PgConnection,
    request: &Acquire,
    template: Option<TemplateId>,
    remaining: usize,
    ticket: Option<TicketId>,
    in_turn: bool,
) -> Result<Outcome> {
    let result = sqlx::query(include_str!("../../sql/acquire.sql"))
        .bind(request.pool.as_str())
        .bind(request.fingerprint.as_ref().map(Fingerprint::as_str))
        .bind(template.map(|template| template.0))
        .bind(request.worker.as_deref().and_then(preferred_slot).and_then(|slot| i32::try_from(slot).ok()))
        .bind(request.id)
        .bind(&request.run)
        .bind(&request.worker)
        .bind(&request.alias)
        .bind(&request.holder)
        .bind(i32::try_from(request.ttl_seconds).unwrap_or(i32::MAX))
        .bind(ticket.map_or(i64::MAX, |t| t.0))
        .bind(i64::try_from(remaining).unwrap_or(i64::MAX))
        .bind(request.exact_slot)
        .bind(in_turn)
        .bind(backend.instance())
        .fetch_one(connection)
        .await;
    match result {
        Ok(row) => match row.try_get::<Option<String>, _>("clone_error")? {
            // The caller would wait in vain.
            Some(error) => Err(Error::TemplateFailed(no_clone(row.try_get("wanted_fingerprint")?, &error)).into()),
            None => Ok(outcome(request, row)?),
        },
        Err(error) if sqlstate::class(&error) == ErrorClass::Exists => Ok(Outcome::Held),
        Err(error) => Err(error.into()),
    }
}

fn outcome(request: &Acquire, row: PgRow) -> Result<Outcome, sqlx::Error> {
    if row.try_get("held")? {
        return Ok(Outcome::Held);
    }
    if row.try_get("ended")? {
        return Ok(Outcome::RunEnded);
    }
    if row.try_get::<Option<&str>, _>("state")?.is_some() {
        return rows::lease(row).map(|lease| Outcome::Granted(Box::new(lease)));
    }
    let Some(template) = row.maybe_number("wanted_template")?.map(TemplateId) else { return Ok(Outcome::Wait(None)) };
    if row.try_get("contested")? {
        return Ok(Outcome::Contested(template));
    }
    let fingerprint = row.parsed("wanted_fingerprint", |text| Fingerprint::parse(text).ok())?;
    Ok(Outcome::Wait(Some(TargetTemplate { pool: request.pool.clone(), template, fingerprint, building: false })))
}

/// The live leases of all the requests' keys, or `None` if one of them has none.
async fn held_by_all(backend: &PgBackend, requests: &[Acquire]) -> Result<Option<Vec<Lease>>> {
    let mut leases = Vec::with_capacity(requests.len());
    for request in requests {
        let Some(lease) = held_by(backend, request).await? else { return Ok(None) };
        leases.push(lease);
    }
    Ok(Some(leases))
}

/// The live lease of a request's key. The id is a key as well: a grant whose answer was lost between server and daemon is found again.
async fn held_by(backend: &PgBackend, request: &Acquire) -> Result<Option<Lease>> {
    let lease = sqlx::query(
        "select * from lease_details l
         where l.state = 'live' and (l.id = $5 or
             l.pool = $1 and l.run = $2 and coalesce(l.worker, '') = coalesce($3, '') and l.alias = $4)",
    )
    .bind(request.pool.as_str())
    .bind(&request.run)
    .bind(&request.worker)
    .bind(&request.alias)
    .bind(request.id)
    .try_map(rows::lease)
    .fetch_optional(&backend.catalog())
    .await?;
    if let (Some(lease), Some(named)) = (&lease, request.fingerprint.as_ref().filter(|_| request.fingerprint_named))
        && *named != lease.fingerprint
    {
        return Err(Error::LeaseConflict(format!(
            "run \"{}\", worker \"{}\", alias \"{}\" already holds lease {} of template \"{}\"; release it first, or use another alias",
            request.run.as_deref().unwrap_or(""),
            request.worker.as_deref().unwrap_or(""),
            request.alias,
            lease.id,
            lease.fingerprint
        ))
        .into());
    }
    Ok(lease)
}
