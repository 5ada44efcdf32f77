-- The server's databases, as the planner sees them. Databases that tests created are left out: the daemon renames one that has a name it
-- needs, so their names count as free. (Except a closed one with a prepared transaction, which cannot be renamed.)

-- Sessions count when they have a user; autovacuum has none, visits every database in turn, and changes nothing. As one value and not as a
-- join, and below lists that Postgres hashes: a plan that was made for a few databases is still used for a thousand.
with live as (
    select coalesce(jsonb_object_agg(datid, sessions), '{}') as counts
    from (select datid, count(*) as sessions from pg_stat_activity where usesysid is not null and datid is not null group by datid) a),

-- When time alone may change the plan. (Ages of templates and pools are not here: nothing waits for their ends.)
times (at) as (
    select retry_at from templates union all select retry_at from databases union all select keep_until from databases
    union all select put_at + interval '60 s' from announced_runs
    union all select build_heard_at + interval '60 s' from templates where state = 'building' and built_by is null)

-- The planner uses session statistics and logins of idle databases only.
select s.oid::int8 as oid, s.name::text as name, s.ours, s.invalid, s.open, coalesce((live.counts ->> s.oid::text)::int8, 0) as sessions,
       case when s.oid::int8 in (select oid from databases where state in ('ready', 'spare') and oid is not null)
            then coalesce(pg_stat_get_db_sessions(s.oid), 0) else 0 end as sessions_ever,
       s.oid::int8 in (
           select oid from databases where state in ('ready', 'spare') and oid is not null
             and login not in (select rolname::text from pg_roles where rolcanlogin)) as locked_out,
       now() as taken_at, (select ceil(extract(epoch from min(at) - now()) * 1000)::int8 from times where at > now()) as next_change
from server_databases s cross join live
where not s.open and exists (select from pg_prepared_xacts x where x.database = s.name) or not s.made_by_tests
