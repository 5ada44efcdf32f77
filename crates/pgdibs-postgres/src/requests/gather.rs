//! The snapshot: everything the planner may look at, as of one moment.

use std::collections::BTreeMap;

use pgdibs_core::name::{Fingerprint, PoolName, RoleName};
use pgdibs_core::request::{TicketId, TicketKind};
use pgdibs_core::snapshot::{AnnouncedRun, Limits, ServerDatabase, Snapshot, Ticket};
use pgdibs_core::template::{TemplateId, Timestamp};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::context::PgBackend;
use crate::rows::{self, database_columns, lease_columns, pool_columns, template_columns};
use crate::shared_sql::living_daemons;
use crate::shared_sql::made_by_tests;

pub(crate) async fn gather(backend: &PgBackend) -> Result<Snapshot, sqlx::Error> {
    // One moment for all tables and for `pg_database`: a lease read before its database was swapped would look orphaned.
    // A transaction that sqlx knows of: a caller that hangs up in the middle must not leave it open on a shared connection.
    let mut transaction = backend.connections.begin(ONE_MOMENT).await?;
    let snapshot = read(backend, &mut transaction).await?;
    transaction.commit().await?;
    Ok(snapshot)
}

/// The same on the reconciler's own connection, for its driver, which never hangs up.
pub(crate) async fn gather_on(backend: &PgBackend, connection: &mut PgConnection) -> Result<Snapshot, sqlx::Error> {
    let mut transaction = connection.begin_with(ONE_MOMENT).await?;
    let snapshot = read(backend, &mut transaction).await?;
    transaction.commit().await?;
    Ok(snapshot)
}

const ONE_MOMENT: &str = "begin isolation level repeatable read read only";

async fn read(backend: &PgBackend, connection: &mut PgConnection) -> Result<Snapshot, sqlx::Error> {
    let pools = sqlx::query(concat!("select ", pool_columns!(), " from pools order by name"))
        .fetch_all(&mut *connection)
        .await?;
    let templates = sqlx::query(concat!("select ", template_columns!(), " from templates t order by t.id"))
        .fetch_all(&mut *connection)
        .await?;
    let databases = sqlx::query(concat!("select ", database_columns!(), " from databases d order by d.id"))
        .fetch_all(&mut *connection)
        .await?;
    let leases = sqlx::query(concat!(
        "select ",
        lease_columns!(),
        " from leases l left join databases d on d.id = l.database_id where l.state = 'live' order by l.id"
    ))
    .fetch_all(&mut *connection)
    .await?;
    let (server, taken_at) = server(connection).await?;
    Ok(Snapshot {
        pools: pools.iter().map(rows::pool).collect::<Result<_, _>>()?,
        templates: templates.iter().map(rows::template).collect::<Result<_, _>>()?,
        databases: databases.iter().map(rows::database).collect::<Result<_, _>>()?,
        leases: leases.iter().map(rows::lease).collect::<Result<_, _>>()?,
        tickets: tickets(backend, connection).await?,
        runs: runs(connection).await?,
        server,
        taken_at,
        limits: Limits {
            slots_by_connections: Some(backend.slots_by_connections()),
            lock_entries: Some(backend.connections.facts.lock_entries),
            free_disk_bytes: free_disk(backend),
            disk_floor_bytes: backend.bounds.disk_floor_bytes,
        },
    })
}

async fn tickets(backend: &PgBackend, connection: &mut PgConnection) -> Result<Vec<Ticket>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select t.id, t.pool, t.template_id, t.count, t.kind,
                greatest(0, extract(epoch from clock_timestamp() - t.created_at))::float8 as waited
         from tickets t where t.daemon = $1 or t.daemon::int8 in (",
        living_daemons!(),
        ") order by t.id"
    ))
    .bind(backend.connections.instance)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Ticket {
                id: TicketId(row.try_get("id")?),
                pool: PoolName::parse(row.try_get("pool")?).map_err(|e| sqlx::Error::Decode(e.into()))?,
                template: TemplateId(row.try_get("template_id")?),
                count: u32::try_from(row.try_get::<i32, _>("count")?).unwrap_or(1),
                kind: match row.try_get::<&str, _>("kind")? {
                    "reset" => TicketKind::Reset,
                    "exact" => TicketKind::Exact,
                    _ => TicketKind::Acquire,
                },
                waited_seconds: row.try_get("waited")?,
            })
        })
        .collect()
}

/// Announced runs that have not lapsed: 60 s after the last PUT, unless the run has leases.
async fn runs(connection: &mut PgConnection) -> Result<Vec<AnnouncedRun>, sqlx::Error> {
    let rows = sqlx::query(
        "select r.run, r.pool, r.fingerprint, r.wanted, l.held
         from announced_runs r
         cross join lateral (
             select count(*) as held from leases l where l.run = r.run and l.pool = r.pool and l.state = 'live') l
         where r.put_at > now() - interval '60 s' or l.held > 0
         order by r.put_at",
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let fingerprint: Option<&str> = row.try_get("fingerprint")?;
            Ok(AnnouncedRun {
                run: row.try_get("run")?,
                pool: PoolName::parse(row.try_get("pool")?).map_err(|e| sqlx::Error::Decode(e.into()))?,
                fingerprint: fingerprint
                    .map(Fingerprint::parse)
                    .transpose()
                    .map_err(|e| sqlx::Error::Decode(e.into()))?,
                wanted: u32::try_from(row.try_get::<i32, _>("wanted")?).unwrap_or(0),
                held: u32::try_from(row.try_get::<i64, _>("held")?).unwrap_or(u32::MAX),
            })
        })
        .collect()
}

/// The server's own list. Session counts are asked for ready databases and spares only: nobody acts on the others'. Autovacuum, which has
/// no user, is not counted: it visits every database of a server in turn, and nothing is learnt or changed by it.
///
/// Without databases that tests made: their names are not taken, since each step that gives a name moves them away. (Which cannot be done
/// while one is closed and something is prepared in it.)
async fn server(connection: &mut PgConnection) -> Result<(BTreeMap<u32, ServerDatabase>, Timestamp), sqlx::Error> {
    let rows = sqlx::query(concat!(
        "with live as (select datid, count(*) as sessions from pg_stat_activity where usesysid is not null group by datid),
              idle as (select oid, login from databases where state in ('ready', 'spare'))
         select d.oid::int8 as oid, d.datname::text as name, o.rolname = $1 as ours, d.datconnlimit = -2 as invalid, d.datallowconn as open,
                coalesce(live.sessions, 0) as sessions,
                case when idle.oid is null then 0 else coalesce(pg_stat_get_db_sessions(d.oid), 0) end as sessions_ever,
                idle.oid is not null and idle.login not in (select rolname::text from pg_roles where rolcanlogin) as locked_out,
                (extract(epoch from now()) * 1000000)::int8 as taken_at
         from pg_database d
         join pg_roles o on o.oid = d.datdba
         left join live on live.datid = d.oid
         left join idle on idle.oid = d.oid::int8
         where not d.datallowconn and exists (select from pg_prepared_xacts x where x.database = d.datname) or not ",
        made_by_tests!(),
    ))
    .bind(RoleName::database_owner().as_str())
    .fetch_all(connection)
    .await?;
    // There is always one: the catalog itself.
    let taken_at = rows.first().map_or(Ok(0), |row| row.try_get("taken_at"))?;
    let databases: Result<_, sqlx::Error> = rows
        .iter()
        .map(|row| {
            Ok((
                rows::unsigned(row, "oid")?,
                ServerDatabase {
                    name: row.try_get("name")?,
                    owned: row.try_get("ours")?,
                    invalid: row.try_get("invalid")?,
                    open: row.try_get("open")?,
                    sessions: rows::unsigned(row, "sessions")?,
                    sessions_ever: rows::unsigned(row, "sessions_ever")?,
                    locked_out: row.try_get("locked_out")?,
                },
            ))
        })
        .collect();
    Ok((databases?, Timestamp(taken_at)))
}

/// Free bytes on the disk of the server's data directory, when that directory is on this machine and we may see it.
#[allow(clippy::unnecessary_cast, reason = "narrower types than u64 on other systems than Linux")]
fn free_disk(backend: &PgBackend) -> Option<u64> {
    let directory = backend.connections.facts.data_directory.as_deref()?;
    let stat = nix::sys::statvfs::statvfs(directory).ok()?;
    Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}
