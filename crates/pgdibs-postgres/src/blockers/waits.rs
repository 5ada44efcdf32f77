//! Tenants' sessions and prepared transactions for which a session of the daemon waits, or a session that starts up.
//!
//! `pg_blocking_pids` names two kinds: who holds a lock that conflicts, and who waits for one ahead in the queue. Of the second kind may be
//! an innocent tenant, which only waits as the daemon does. So the holders are ended, and who waits only where no tenant holds.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::tenants::{self, Prepared};
use crate::address::{CATALOG, ServerAddress};
use crate::context::PgBackend;
use crate::leftovers::roll_back_prepared;
use crate::watch::{Session, Watch, is_tenant, session_columns};

/// What is in the way of one that waits.
struct Blocker {
    /// That of another pool, as which the session waits that starts up; `None` when it is the daemon that waits or has to get in.
    database: Option<i64>,
    /// Whether it holds the lock, or only waits ahead.
    holds: bool,
    /// Whether the one that waits wants what this one holds, so that it helps nothing to end those ahead.
    direct: bool,
    what: What,
}

enum What {
    Tenant(Session),
    Prepared(Prepared),
    /// Nothing that the daemon may end.
    Other,
}

/// From whoever waits (`root`) along those that wait ahead (`walk`) to those that hold (`found`).
///
/// Starting sessions lock their database as an object before they have a name, so the locks tell them, and not `pg_stat_activity`. A lock
/// on a tuple is held by who waits for the transaction that changed it, so its holder is one that waits. A prepared transaction is told
/// by the lock on its own number.
const BLOCKERS: &str = concat!(
    "with recursive l as materialized (
         select pid, virtualtransaction, granted, mode, locktype, classid, objid, transactionid,
                row(locktype, database, relation, page, tuple, virtualxid, transactionid, classid, objid, objsubid)::text as tag
         from pg_locks),
     conflicting (mode, modes) as (values
         ('AccessShareLock', 'AccessExclusiveLock'),
         ('RowShareLock', 'ExclusiveLock AccessExclusiveLock'),
         ('RowExclusiveLock', 'ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
         ('ShareUpdateExclusiveLock', 'ShareUpdateExclusiveLock ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
         ('ShareLock', 'RowExclusiveLock ShareUpdateExclusiveLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
         ('ShareRowExclusiveLock', 'RowExclusiveLock ShareUpdateExclusiveLock ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
         ('ExclusiveLock', 'RowShareLock RowExclusiveLock ShareUpdateExclusiveLock ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
         ('AccessExclusiveLock', 'AccessShareLock RowShareLock RowExclusiveLock ShareUpdateExclusiveLock ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock')),
     held as materialized (
         select w.pid, h.pid as by, h.virtualtransaction
         from l w join conflicting c on c.mode = w.mode
         join l h on h.granted and h.tag = w.tag and h.mode = any (string_to_array(c.modes, ' ')) and h.pid is distinct from w.pid
         where not w.granted and w.locktype <> 'tuple'),
     ahead as materialized (
         select w.pid, b.pid as by, w.locktype = 'tuple' as of_tuple
         from l w cross join lateral unnest(pg_blocking_pids(w.pid)) as b (pid)
         where not w.granted and not exists (select from held h where h.pid = w.pid and h.by = b.pid)),
     root as (
         select w.pid, null::oid as database from l w join pg_stat_activity a on a.pid = w.pid
         where not w.granted and a.usename = current_user and starts_with(a.application_name, 'pgdibs')
         union
         select w.pid, case when d.datname = $1::name then null else d.oid end
         from l w join pg_database d on d.oid = w.objid join pg_roles o on o.oid = d.datdba
         where not w.granted and w.locktype = 'object' and w.classid = 1262 and (d.datname = $1::name or o.rolname = 'pgdibs_owner')),
     walk as (
         select pid as root, database, pid, true as direct from root
         union
         select k.root, k.database, w.by, k.direct and w.of_tuple from walk k join ahead w on w.pid = k.pid),
     found as (
         select k.root, k.database, h.by as pid, h.virtualtransaction, true as holds, k.direct
         from walk k join held h on h.pid = k.pid
         union
         select k.root, k.database, k.pid, null, false, false from walk k where k.pid <> k.root)
     select f.root, f.database::int8 as wanted, f.holds, f.direct, coalesce(",
    is_tenant!(),
    ", false) as is_tenant, ",
    session_columns!(),
    ", x.gid, x.database::text as prepared_in, x.owner::text as owner,
       coalesce(x.owner ~ '^pgdibs_l_[0-9]+$' or o.rolname = 'pgdibs_owner', false) as is_tenants
     from found f left join pg_stat_activity a on a.pid = f.pid
     left join l own on f.pid is null and own.virtualtransaction = f.virtualtransaction and own.locktype = 'transactionid' and own.granted
     left join pg_prepared_xacts x on x.transaction = own.transactionid
     left join pg_database d on d.datname = x.database left join pg_roles o on o.oid = d.datdba"
);

/// Looks once. Without a backend the daemon has yet to reach its catalog.
pub(super) async fn end(
    backend: Option<&PgBackend>,
    address: &ServerAddress,
    watch: &mut Watch,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(BLOCKERS).bind(CATALOG).fetch_all(watch.fresh().await?).await?;
    let mut waiting: BTreeMap<i32, Vec<Blocker>> = BTreeMap::new();
    for row in &rows {
        waiting.entry(row.try_get("root")?).or_default().push(blocker(row)?);
    }
    let mut rolled_back = BTreeSet::new();
    for blockers in waiting.values() {
        let mut ended_holder = false;
        for blocker in blockers.iter().filter(|blocker| blocker.holds) {
            match &blocker.what {
                What::Tenant(session) if tenants::may_not_block(backend, session, blocker.database).await => {
                    watch.end(session, WHY).await?;
                    ended_holder = true;
                }
                What::Prepared(prepared) if tenants::has_prepared(backend, prepared).await => {
                    ended_holder = true;
                    if rolled_back.insert((prepared.database.clone(), prepared.gid.clone())) {
                        roll_back(address, prepared).await;
                    }
                }
                _ => {}
            }
        }
        // Behind a lock that stays, the one that waits would gain nothing.
        if ended_holder || blockers.iter().any(|blocker| blocker.holds && blocker.direct) {
            continue;
        }
        for blocker in blockers.iter().filter(|blocker| !blocker.holds) {
            if let What::Tenant(session) = &blocker.what
                && tenants::may_not_block(backend, session, blocker.database).await
            {
                watch.end(session, WHY).await?;
            }
        }
    }
    Ok(())
}

const WHY: &str = "pgdibs, or a session that starts up, waited for its lock";

fn blocker(row: &PgRow) -> Result<Blocker, sqlx::Error> {
    let what = match row.try_get::<Option<String>, _>("gid")? {
        Some(gid) => What::Prepared(Prepared {
            database: row.try_get("prepared_in")?,
            gid,
            owner: row.try_get("owner")?,
            is_tenants: row.try_get("is_tenants")?,
        }),
        None if row.try_get("is_tenant")? => What::Tenant(Session::of(row)?),
        None => What::Other,
    };
    Ok(Blocker { database: row.try_get("wanted")?, holds: row.try_get("holds")?, direct: row.try_get("direct")?, what })
}

async fn roll_back(address: &ServerAddress, prepared: &Prepared) {
    let Prepared { database, gid, owner, .. } = prepared;
    match roll_back_prepared(address, database, gid, owner).await {
        Ok(()) => tracing::warn!(database, gid, "rolled back prepared transaction: {WHY}"),
        Err(error) => tracing::warn!(database, gid, %error, "cannot roll back prepared transaction"),
    }
}
