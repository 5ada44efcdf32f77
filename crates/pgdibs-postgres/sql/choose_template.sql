-- The template of a request that names none: the one that its run announced or leased last, else the pool's current one, else its newest.
-- $1 pool, $2 run or null, $3 instance of this daemon

with of_run as (
    select coalesce(
        (select fingerprint from announced_runs where run = $2 and pool = $1),
        (select fingerprint from leases where run = $2 and pool = $1 order by acquired_at desc limit 1)) as fingerprint),

current as (
    select t.id, t.fingerprint from templates t join pools p on p.name = t.pool
    where p.name = $1 and t.state in ('ready', 'building')
    order by t.state = 'ready' desc, t.id is not distinct from p.current_template desc, t.built_at desc nulls last, t.id desc limit 1)

-- `others`: templates of the pool that callers use beside the current one. A daemon that builds the pool's templates has named its own.
-- Tickets of a dead daemon do not count, nor does an announcement that has lapsed; a run with leases is in use by these.
select of_run.fingerprint as of_run, current.fingerprint as current,
       case when of_run.fingerprint is null and not p.sourced then array(
           select o.fingerprint from templates o
           where o.pool = $1 and o.id <> current.id and o.state in ('ready', 'building') and (
               exists (select from databases d where d.template_id = o.id and d.state = 'leased')
               or exists (select from tickets t where t.template_id = o.id and t.kind <> 'reset'
                   and (t.daemon = $3 or t.daemon::int8 in (select daemon from living_daemons)))
               or exists (select from announced_runs r
                   where r.pool = $1 and r.fingerprint = o.fingerprint and r.put_at > now() - interval '60 s'))
           order by o.fingerprint) else '{}' end as others
from pools p cross join of_run left join current on true
where p.name = $1 and not p.dropping
