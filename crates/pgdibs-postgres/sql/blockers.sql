-- Who blocks the daemon: from the sessions that wait (`root`), along those that wait ahead (`walk`), to the holders (`found`).
-- $1 the name of the catalog

-- All locks, read once. `tag` identifies the locked object.
l as materialized (
    select pid, virtualtransaction, granted, mode, locktype, classid, objid, transactionid,
           row(locktype, database, relation, page, tuple, virtualxid, transactionid, classid, objid, objsubid)::text as tag
    from pg_locks),

-- The lock modes that conflict with each mode (the table in the manual's chapter on explicit locking).
conflicting (mode, modes) as (values
    ('AccessShareLock', 'AccessExclusiveLock'),
    ('RowShareLock', 'ExclusiveLock AccessExclusiveLock'),
    ('RowExclusiveLock', 'ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
    ('ShareUpdateExclusiveLock', 'ShareUpdateExclusiveLock ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
    ('ShareLock', 'RowExclusiveLock ShareUpdateExclusiveLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
    ('ShareRowExclusiveLock', 'RowExclusiveLock ShareUpdateExclusiveLock ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
    ('ExclusiveLock', 'RowShareLock RowExclusiveLock ShareUpdateExclusiveLock ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock'),
    ('AccessExclusiveLock', 'AccessShareLock RowShareLock RowExclusiveLock ShareUpdateExclusiveLock ShareLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock')),

-- For each lock that a session waits for, the holders of conflicting locks. A lock on a tuple is held by a session that waits for the
-- transaction that changed the tuple, so its holder is in `ahead`.
held as materialized (
    select w.pid, h.pid as by, h.virtualtransaction
    from l w join conflicting c on c.mode = w.mode
    join l h on h.granted and h.tag = w.tag and h.mode = any (string_to_array(c.modes, ' ')) and h.pid is distinct from w.pid
    where not w.granted and w.locktype <> 'tuple'),

-- The sessions that wait for the same lock, ahead in its queue. `pg_blocking_pids` names these and the holders.
ahead as materialized (
    select w.pid, b.pid as by, w.locktype = 'tuple' as of_tuple
    from l w cross join lateral unnest(pg_blocking_pids(w.pid)) as b (pid)
    where not w.granted and not exists (select from held h where h.pid = w.pid and h.by = b.pid)),

-- Who waits: the daemon's sessions, and sessions that start up in the catalog ($1) or in a database of pgdibs. The latter lock their
-- database as an object before they have a name, so pg_locks shows them and pg_stat_activity does not. `database` is null for the daemon
-- and its catalog.
root as (
    select w.pid, null::oid as database from l w join pg_stat_activity a on a.pid = w.pid
    where not w.granted and a.usename = current_user and starts_with(a.application_name, 'pgdibs')
    union
    select w.pid, case when d.datname = $1::name then null else d.oid end
    from l w join pg_database d on d.oid = w.objid join pg_roles o on o.oid = d.datdba
    where not w.granted and w.locktype = 'object' and w.classid = 1262 and (d.datname = $1::name or o.rolname = 'pgdibs_owner')),

-- From each of them along the sessions that wait ahead. `direct`: it wants what the root wants, so ending those
-- ahead would not help the root.
walk as (
    select pid as root, database, pid, true as direct from root
    union
    select k.root, k.database, w.by, k.direct and w.of_tuple from walk k join ahead w on w.pid = k.pid),

-- What each of them leads to: the holders of locks, and those that only wait ahead. A session ahead that does not wait any more is about
-- to release its lock on a tuple: the transaction for which it waited has just ended.
found as (
    select k.root, k.database, h.by as pid, h.virtualtransaction, true as holds, k.direct
    from walk k join held h on h.pid = k.pid
    union
    select k.root, k.database, k.pid, null, false, false from walk k
    where k.pid <> k.root and exists (select from l where l.pid = k.pid and not l.granted))

-- A prepared transaction has no session; the lock on its own number identifies it. `is_tenants`: its owner or its database's owner says so.
select f.root, f.database::int8 as wanted, f.holds, f.direct, s.*, x.gid, x.database::text as prepared_in, x.owner::text as owner,
       coalesce(x.owner ~ '^pgdibs_l_[0-9]+$' or o.rolname = 'pgdibs_owner', false) as is_tenants
from found f left join session s on s.pid = f.pid
left join l own on f.pid is null and own.virtualtransaction = f.virtualtransaction and own.locktype = 'transactionid' and own.granted
left join pg_prepared_xacts x on x.transaction = own.transactionid
left join pg_database d on d.datname = x.database left join pg_roles o on o.oid = d.datdba
