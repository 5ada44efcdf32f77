-- The server's databases, as the planner sees them. Databases that tests created are left out: the daemon renames one that has a name it
-- needs, so their names count as free. (Except a closed one with a prepared transaction, which cannot be renamed.)

-- Sessions count when they have a user; autovacuum has none, visits every database in turn, and changes nothing.
with live as (
    select datid, count(*) as sessions from pg_stat_activity where usesysid is not null group by datid),

-- The only databases whose session statistics the planner uses.
idle as (
    select oid, login from databases where state in ('ready', 'spare'))

select s.oid::int8 as oid, s.name::text as name, s.ours, s.invalid, s.open, coalesce(live.sessions, 0) as sessions,
       case when idle.oid is null then 0 else coalesce(pg_stat_get_db_sessions(s.oid), 0) end as sessions_ever,
       idle.oid is not null and idle.login not in (select rolname::text from pg_roles where rolcanlogin) as locked_out,
       now() as taken_at
from server_databases s
left join live on live.datid = s.oid
left join idle on idle.oid = s.oid::int8
where not s.open and exists (select from pg_prepared_xacts x where x.database = s.name) or not s.made_by_tests
