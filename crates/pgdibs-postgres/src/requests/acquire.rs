//! Acquiring: one statement that takes a ready database, in the order of tickets. Nothing slow stands in its way.

use pgdibs_core::error::Error;
use pgdibs_core::lease::Lease;
use pgdibs_core::name::{Fingerprint, preferred_slot};
use pgdibs_core::request::{Acquire, Acquired, TargetTemplate, TicketId};
use pgdibs_core::template::TemplateId;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::{pools, runs};
use crate::context::{PgBackend, answer};
use crate::failpoint::{Point, reach};
use crate::rows::{self, lease_columns};
use crate::shared_sql::living_daemons;
use crate::sqlstate::{self, Meaning};

/// What became of one wish inside a transaction that may still be rolled back.
enum Taken {
    Lease(Box<Lease>),
    /// None is left; of this template, if it is ready.
    Nothing(Option<TargetTemplate>),
    /// Enough are left also when the waiters have been served; but another newcomer may have counted the same ones.
    Contested(TemplateId),
    /// The key has a live lease already.
    Held,
    /// The run is over.
    RunEnded,
}

pub(crate) async fn acquire(
    backend: &PgBackend,
    acquire_requests: &[Acquire],
    ticket: Option<TicketId>,
) -> Result<Acquired, Error> {
    let (leases, last) = if let [acquire_request] = acquire_requests {
        let mut connection = answer(backend.connections.catalog.acquire().await)?;
        match take_one(backend, &mut connection, acquire_request, None, 1, ticket, ticket.is_some()).await? {
            Taken::Lease(lease) => (vec![*lease], None),
            Taken::Contested(template) => {
                drop(connection);
                take_in_turn(backend, acquire_request, template).await?
            }
            // Until the server has let go of what a failed statement had locked, others would pass over it.
            Taken::Held => {
                (Vec::new(), Some((acquire_request, answer(connection.ping().await).map(|()| Taken::Held)?)))
            }
            taken => (Vec::new(), Some((acquire_request, taken))),
        }
    } else {
        take_all(backend, acquire_requests, ticket).await?
    };
    match last {
        None => {
            reach(Point::AcquireCommitted).await;
            refuse_ended_runs(backend, acquire_requests, &leases).await?;
            Ok(Acquired::Granted(leases))
        }
        Some((acquire_request, Taken::RunEnded)) => {
            Err(Error::RunEnded(acquire_request.run.clone().unwrap_or_default()))
        }
        Some((acquire_request, Taken::Held)) => match existing(backend, acquire_requests).await? {
            Some(held) => Ok(held),
            None => resolve(backend, acquire_request).await.map(Acquired::Wait),
        },
        Some((_, Taken::Nothing(Some(wanted)))) => Ok(Acquired::Wait(wanted)),
        Some((acquire_request, _)) => resolve(backend, acquire_request).await.map(Acquired::Wait),
    }
}

/// Takes one as a newcomer while others wait. Newcomers that count at the same moment would each see what is left beside the waiters,
/// and together take more: so here one waits for the other, and counts after that.
async fn take_in_turn<'a>(
    backend: &PgBackend,
    acquire_request: &'a Acquire,
    template: TemplateId,
) -> Result<(Vec<Lease>, Option<(&'a Acquire, Taken)>), Error> {
    let mut transaction = answer(backend.connections.begin("begin").await)?;
    wait_for_other_newcomers(&mut transaction, &[template.0]).await?;
    match take_one(backend, &mut transaction, acquire_request, Some(template), 1, None, true).await? {
        Taken::Lease(lease) => {
            answer(transaction.commit().await)?;
            Ok((vec![*lease], None))
        }
        taken => {
            answer(transaction.rollback().await)?;
            Ok((Vec::new(), Some((acquire_request, taken))))
        }
    }
}

/// Until the end of the transaction. The lock lets through whoever only reads the templates or refers to them.
async fn wait_for_other_newcomers(connection: &mut PgConnection, templates: &[i64]) -> Result<(), Error> {
    let locked = sqlx::query("select from templates where id = any($1) order by id for no key update")
        .bind(templates)
        .execute(connection)
        .await;
    answer(locked.map(|_| ()))
}

/// All the wishes or none, in one transaction; with none, the wish at which it ended, and why. A key that holds a lease gets it again,
/// and takes no place.
async fn take_all<'a>(
    backend: &PgBackend,
    acquire_requests: &'a [Acquire],
    ticket: Option<TicketId>,
) -> Result<(Vec<Lease>, Option<(&'a Acquire, Taken)>), Error> {
    let mut held = Vec::with_capacity(acquire_requests.len());
    for acquire_request in acquire_requests {
        held.push(held_by(backend, acquire_request).await?);
    }
    if let (Some(acquire_request), true) = (acquire_requests.first(), held.iter().all(Option::is_some)) {
        return Ok((Vec::new(), Some((acquire_request, Taken::Held))));
    }
    let mut wanted = Vec::with_capacity(acquire_requests.len());
    for (acquire_request, held) in acquire_requests.iter().zip(&held) {
        if held.is_some() {
            wanted.push(None);
            continue;
        }
        let found = resolve(backend, acquire_request).await?;
        if found.building {
            return Ok((Vec::new(), Some((acquire_request, Taken::Nothing(Some(found))))));
        }
        wanted.push(Some(found));
    }
    for acquire_request in acquire_requests {
        let count = acquire_requests.iter().filter(|other| other.pool == acquire_request.pool).count();
        let pool = pools::find(backend, &acquire_request.pool).await?;
        pools::refuse_what_can_never_fit(backend, &pool, u32::try_from(count).unwrap_or(u32::MAX))?;
    }
    let mut transaction = answer(backend.connections.begin("begin").await)?;
    if ticket.is_none() {
        let templates: Vec<i64> = wanted.iter().flatten().map(|wanted| wanted.template.0).collect();
        wait_for_other_newcomers(&mut transaction, &templates).await?;
    }
    let mut leases = Vec::with_capacity(acquire_requests.len());
    for (index, (acquire_request, held)) in acquire_requests.iter().zip(held).enumerate() {
        let Some(template) = wanted[index].as_ref().map(|wanted| wanted.template) else {
            leases.extend(held);
            continue;
        };
        let still = wanted[index..].iter().flatten().filter(|wanted| wanted.template == template).count();
        match take_one(backend, &mut transaction, acquire_request, Some(template), still, ticket, true).await? {
            Taken::Lease(lease) => {
                leases.push(*lease);
                reach(Point::AcquireHalfOfBatch).await;
            }
            taken => {
                answer(transaction.rollback().await)?;
                return Ok((Vec::new(), Some((acquire_request, taken))));
            }
        }
    }
    answer(transaction.commit().await)?;
    Ok((leases, None))
}

/// The template that a wish means, for those who have to wait for it; without a lock, so the taking statement looks again.
async fn resolve(backend: &PgBackend, acquire_request: &Acquire) -> Result<TargetTemplate, Error> {
    let row = answer(
        sqlx::query(
            "select p.name, t.id, t.fingerprint, t.state from pools p
             left join lateral (
                 select id, fingerprint, state from templates
                 where pool = p.name and state in ('ready', 'building')
                   and case when $2::text is null then true else fingerprint = $2 end
                 order by state = 'ready' desc, built_at desc nulls last, id desc limit 1) t on true
             where p.name = $1 and not p.dropping",
        )
        .bind(acquire_request.pool.as_str())
        .bind(acquire_request.fingerprint.as_ref().map(Fingerprint::as_str))
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    let Some(row) = row else { return Err(Error::PoolNotFound(acquire_request.pool.to_string())) };
    let Some(id) = answer(row.try_get::<Option<i64>, _>("id"))? else {
        let what = match &acquire_request.fingerprint {
            Some(fingerprint) => format!("no template \"{fingerprint}\""),
            None => "no template yet".to_owned(),
        };
        return Err(Error::TemplateNotFound(format!(
            "pool \"{0}\" has {what}; PUT /v1/pools/{0}/templates/<fingerprint> or `pgdibs template build {0}` makes one",
            acquire_request.pool
        )));
    };
    let fingerprint: String = answer(row.try_get("fingerprint"))?;
    Ok(TargetTemplate {
        pool: acquire_request.pool.clone(),
        template: TemplateId(id),
        fingerprint: Fingerprint::parse(&fingerprint)?,
        building: answer(row.try_get::<&str, _>("state"))? == "building",
    })
}

/// Takes one ready database for a wish (of `template`, or of the one that the wish means), if enough are left when everybody with an earlier ticket has been served.
///
/// `in_turn`: the caller has a ticket, or holds the lock of [`wait_for_other_newcomers`]; without, it takes only what nobody waits for.
/// `still` is how many of this template the caller wants, this one included. A grant takes the caller's ticket with it, so that
/// nobody behind it waits for a place that is free. A database that has a session, or ever had one,
/// is passed over: it is tampered with. (Autovacuum has no user, and is not counted.) So is one whose login may not log in.
///
/// A key that holds a lease takes nothing; the unique index is for two calls at the same moment.
async fn take_one(
    backend: &PgBackend,
    connection: &mut PgConnection,
    acquire_request: &Acquire,
    template: Option<TemplateId>,
    still: usize,
    ticket: Option<TicketId>,
    in_turn: bool,
) -> Result<Taken, Error> {
    let result = sqlx::query(concat!(
        "with holding as (
             select id from leases where state = 'live' and (id = $5 or
                 pool = $1 and run = $6 and coalesce(worker, '') = coalesce($7, '') and alias = $8)),
         template as (
             select t.id, t.fingerprint from templates t join pools p on p.name = t.pool
             where p.name = $1 and not p.dropping and t.state = 'ready'
               and ($3::int8 is null or t.id = $3) and ($2::text is null or t.fingerprint = $2)
             order by t.built_at desc nulls last, t.id desc limit 1 for key share of t),
         used as (
             update templates set last_used_at = now()
             where id = (select id from template) and last_used_at < now() - interval '10 s' and state = 'ready'),
         ahead as (
             select coalesce(sum(t.count), 0) as places from tickets t
             where t.template_id = (select id from template) and t.kind <> 'reset' and t.id < $11
               and (t.daemon = $15 or t.daemon::int8 in (",
        living_daemons!(),
        "))),
         untouched as materialized (
             select d.id from databases d join pg_database p on p.oid = d.oid::oid and p.datname = d.name::name
             where d.template_id = (select id from template) and d.state = 'ready' and p.datconnlimit <> -2
               and coalesce(pg_stat_get_db_sessions(d.oid::oid), 0) = 0
               and exists (select from pg_roles r where r.rolname = d.login::name and r.rolcanlogin)
               and not exists (select from pg_stat_activity a where a.datid = d.oid::oid and a.usesysid is not null)),
         free as (
             select count(*) as places from untouched),
         chosen as (
             select d.id from databases d join untouched on untouched.id = d.id, ahead, free, template
             where d.template_id = template.id and d.state = 'ready'
               and free.places >= ahead.places + $12 and ($14 or ahead.places = 0)
               and (not $13 or d.slot = $4)
               and not exists (select from ended_runs where run = $6)
               and not exists (select from holding)
             order by d.slot is distinct from $4, d.slot
             limit 1 for update of d skip locked),
         d as (
             update databases set state = 'leased' from chosen where databases.id = chosen.id
             returning databases.*),
         l as (
             insert into leases (id, pool, fingerprint, template_id, database_id, database_name, slot, run, worker, alias, holder, state, ttl_seconds)
             select $5, d.pool, template.fingerprint, template.id, d.id, d.name, d.slot, $6, $7, $8, $9, 'live', $10 from d, template
             where d.pool = $1
             returning *),
         served as (
             delete from tickets where id = $11 and exists (select from l))
         select exists (select from holding) as held, exists (select from ended_runs where run = $6) as ended,
                template.id as wanted_template, template.fingerprint as wanted_fingerprint,
                (select free.places >= ahead.places + $12 and not $14 and ahead.places > 0 from free, ahead) as contested, ",
        lease_columns!(),
        " from (values (1)) as always left join template on true left join (l join d on d.id = l.database_id) on true"
    ))
    .bind(acquire_request.pool.as_str())
    .bind(acquire_request.fingerprint.as_ref().map(Fingerprint::as_str))
    .bind(template.map(|template| template.0))
    .bind(acquire_request.worker.as_deref().and_then(preferred_slot).and_then(|slot| i32::try_from(slot).ok()))
    .bind(acquire_request.id)
    .bind(acquire_request.run.as_deref())
    .bind(acquire_request.worker.as_deref())
    .bind(&acquire_request.alias)
    .bind(&acquire_request.holder)
    .bind(i32::try_from(acquire_request.ttl_seconds).unwrap_or(i32::MAX))
    .bind(ticket.map_or(i64::MAX, |t| t.0))
    .bind(i64::try_from(still).unwrap_or(i64::MAX))
    .bind(acquire_request.exact_slot)
    .bind(in_turn)
    .bind(backend.connections.instance)
    .fetch_one(connection)
    .await;
    match result {
        Ok(row) if answer(row.try_get("held"))? => Ok(Taken::Held),
        Ok(row) if answer(row.try_get("ended"))? => Ok(Taken::RunEnded),
        Ok(row) if answer(row.try_get::<Option<&str>, _>("state"))?.is_none() => {
            match (waits_for(acquire_request, &row)?, answer(row.try_get("contested"))?) {
                (Some(wanted), true) => Ok(Taken::Contested(wanted.template)),
                (wanted, _) => Ok(Taken::Nothing(wanted)),
            }
        }
        Ok(row) => answer(rows::lease(&row)).map(|lease| Taken::Lease(Box::new(lease))),
        Err(error) if sqlstate::meaning(&error) == Meaning::Exists => Ok(Taken::Held),
        Err(error) => answer(Err(error)),
    }
}

/// The ready template that a wish means, as the taking statement found it.
fn waits_for(acquire_request: &Acquire, row: &PgRow) -> Result<Option<TargetTemplate>, Error> {
    let (Some(id), Some(fingerprint)) = (
        answer(row.try_get::<Option<i64>, _>("wanted_template"))?,
        answer(row.try_get::<Option<&str>, _>("wanted_fingerprint"))?,
    ) else {
        return Ok(None);
    };
    let (template, fingerprint) = (TemplateId(id), Fingerprint::parse(fingerprint)?);
    Ok(Some(TargetTemplate { pool: acquire_request.pool.clone(), template, fingerprint, building: false }))
}

/// The live leases of the wishes' keys, if every one of them has one. The id is a key as well: a grant whose answer was lost on
/// its way from the server is found again.
async fn existing(backend: &PgBackend, acquire_requests: &[Acquire]) -> Result<Option<Acquired>, Error> {
    let mut leases = Vec::with_capacity(acquire_requests.len());
    for acquire_request in acquire_requests {
        let Some(lease) = held_by(backend, acquire_request).await? else { return Ok(None) };
        leases.push(lease);
    }
    Ok(Some(Acquired::Existing(leases)))
}

/// The live lease of one wish's key.
async fn held_by(backend: &PgBackend, acquire_request: &Acquire) -> Result<Option<Lease>, Error> {
    let row = answer(
        sqlx::query(concat!(
            "select ",
            lease_columns!(),
            " from leases l join databases d on d.id = l.database_id
             where l.state = 'live' and (l.id = $5 or
                 l.pool = $1 and l.run = $2 and coalesce(l.worker, '') = coalesce($3, '') and l.alias = $4)"
        ))
        .bind(acquire_request.pool.as_str())
        .bind(acquire_request.run.as_deref())
        .bind(acquire_request.worker.as_deref())
        .bind(&acquire_request.alias)
        .bind(acquire_request.id)
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    let Some(row) = row else { return Ok(None) };
    let lease = answer(rows::lease(&row))?;
    if acquire_request.fingerprint.as_ref().is_some_and(|asked| *asked != lease.fingerprint) {
        return Err(Error::LeaseConflict(format!(
            "run \"{}\", worker \"{}\", alias \"{}\" already holds lease {} of template \"{}\"; release it first, or use another alias",
            acquire_request.run.as_deref().unwrap_or(""),
            acquire_request.worker.as_deref().unwrap_or(""),
            acquire_request.alias,
            lease.id,
            lease.fingerprint
        )));
    }
    Ok(Some(lease))
}

/// See [`runs::end`]: the end of the run may have been committed between our statement's snapshot and its commit.
async fn refuse_ended_runs(backend: &PgBackend, acquire_requests: &[Acquire], leases: &[Lease]) -> Result<(), Error> {
    for run in acquire_requests.iter().filter_map(|acquire_request| acquire_request.run.as_ref()) {
        if answer(runs::has_ended(backend, run).await)? {
            for lease in leases {
                super::leases::end(backend, lease.id, pgdibs_core::lease::End::Released, "its run ended").await?;
            }
            return Err(Error::RunEnded(run.clone()));
        }
    }
    Ok(())
}
