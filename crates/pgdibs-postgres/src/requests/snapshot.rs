//! The snapshot: everything that the planner uses, as of one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use pgdibs_core::request::{TicketHolder, TicketId, TicketKind};
use pgdibs_core::snapshot::{AnnouncedRun, Limits, ServerDatabase, Snapshot, Ticket};
use pgdibs_core::template::{TemplateId, Timestamp};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::pools;
use crate::context::PgBackend;
use crate::rows::{self, Columns as _};

pub(crate) async fn take(backend: &PgBackend) -> Result<Snapshot, sqlx::Error> {
    let mut transaction = backend.transaction_with(ONE_MOMENT).await?;
    let snapshot = read(backend, &mut transaction).await?;
    transaction.commit().await?;
    Ok(snapshot)
}

/// The same on the reconciler's own connection.
pub(crate) async fn take_on(backend: &PgBackend, connection: &mut PgConnection) -> Result<Snapshot, sqlx::Error> {
    let mut transaction = connection.begin_with(ONE_MOMENT).await?;
    let snapshot = read(backend, &mut transaction).await?;
    transaction.commit().await?;
    Ok(snapshot)
}

/// For all tables and for `pg_database`: a lease that was read before its database was swapped would look orphaned.
const ONE_MOMENT: &str = "begin isolation level repeatable read read only";

async fn read(backend: &PgBackend, connection: &mut PgConnection) -> Result<Snapshot, sqlx::Error> {
    let pools = pools::all(connection).await?;
    let templates = sqlx::query("select * from template_details order by id").try_map(rows::template);
    let templates = templates.fetch_all(&mut *connection).await?;
    let databases = sqlx::query(
        "select id, pool, template_id, state, name, oid, slot, keep_until, coalesce(keep_until <= now(), false) as keep_expired,
                keep_lease, coalesce(keep_reason, reason) as reason, attempts, coalesce(retry_at <= now(), true) as due, last_error,
                created_at, ready_at
         from databases order by id",
    )
    .try_map(rows::database)
    .fetch_all(&mut *connection)
    .await?;
    let leases = sqlx::query("select * from lease_details where state = 'live' order by id").try_map(rows::lease);
    let leases = leases.fetch_all(&mut *connection).await?;
    let server = sqlx::query(include_str!("../../sql/server_databases.sql")).fetch_all(&mut *connection).await?;
    // There is always one: the catalog itself.
    let taken_at = server.first().map_or(Ok(Timestamp(0)), |row| row.time("taken_at"))?;
    let next_change = server.first().map_or(Ok(None), |row| row.maybe_number("next_change"))?;
    Ok(Snapshot {
        pools,
        templates,
        databases,
        leases,
        tickets: tickets(backend, connection).await?,
        runs: runs(connection).await?,
        server: server.into_iter().map(server_database).collect::<Result<BTreeMap<_, _>, _>>()?,
        taken_at,
        next_change: next_change.map(Duration::from_millis),
        server_address: backend.connections.address.shown(),
        limits: Limits {
            slots_by_connections: Some(backend.slots_by_connections()),
            lock_entries: Some(backend.facts().lock_entries),
            free_disk_bytes: backend.free_disk(),
            disk_floor_bytes: backend.disk_floor_bytes,
            clones_files: backend.clones_files(),
        },
    })
}

async fn tickets(backend: &PgBackend, connection: &mut PgConnection) -> Result<Vec<Ticket>, sqlx::Error> {
    let ticket = |row: PgRow| {
        Ok(Ticket {
            id: TicketId(row.try_get("id")?),
            pool: row.pool()?,
            template: TemplateId(row.try_get("template_id")?),
            count: row.number("count")?,
            kind: match row.try_get("kind")? {
                "reset" => TicketKind::Reset,
                "exact" => TicketKind::Exact,
                _ => TicketKind::Acquire,
            },
            holder: TicketHolder {
                run: row.try_get("run")?,
                worker: row.try_get("worker")?,
                holder: row.try_get("holder")?,
            },
            waited_seconds: row.try_get("waited")?,
        })
    };
    sqlx::query(
        "select id, pool, template_id, count, kind, run, worker, holder, greatest(0, extract(epoch from clock_timestamp() - created_at))::float8 as waited
         from tickets where daemon = $1 or daemon::int8 in (select daemon from living_daemons) order by id",
    )
    .bind(backend.instance())
    .try_map(ticket)
    .fetch_all(connection)
    .await
}

/// Announced runs that have not lapsed: 60 s after the last PUT, unless the run has leases.
async fn runs(connection: &mut PgConnection) -> Result<Vec<AnnouncedRun>, sqlx::Error> {
    let run = |row: PgRow| {
        Ok(AnnouncedRun {
            run: row.try_get("run")?,
            pool: row.pool()?,
            fingerprint: match row.try_get::<Option<&str>, _>("fingerprint")? {
                Some(_) => Some(row.fingerprint()?),
                None => None,
            },
            wanted: row.number("wanted")?,
            held: row.number("held")?,
        })
    };
    sqlx::query(
        "select r.run, r.pool, r.fingerprint, r.wanted, l.held
         from announced_runs r
         cross join lateral (
             select count(*) as held from leases l where l.run = r.run and l.pool = r.pool and l.state = 'live') l
         where r.put_at > now() - interval '60 s' or l.held > 0
         order by r.put_at",
    )
    .try_map(run)
    .fetch_all(connection)
    .await
}

fn server_database(row: PgRow) -> Result<(u32, ServerDatabase), sqlx::Error> {
    let database = ServerDatabase {
        name: row.foreign_name("name")?,
        owned: row.try_get("ours")?,
        invalid: row.try_get("invalid")?,
        open: row.try_get("open")?,
        sessions: row.number("sessions")?,
        sessions_ever: row.number("sessions_ever")?,
        locked_out: row.try_get("locked_out")?,
    };
    Ok((row.number("oid")?, database))
}
