-- Reserves a spare for the reset of a lease. The reservation counts as a renewal.
-- $1 lease, $2 the generation to replace, or null, $3 own ticket (the highest number without one), $4 instance of this daemon

-- Spares that the resets with earlier tickets want.
with ahead as (
    select coalesce(sum(t.count), 0) as places from tickets t
    join leases l on l.id = $1 and l.template_id = t.template_id
    where t.kind = 'reset' and t.id < $3
      and (t.daemon = $4 or t.daemon::int8 in (select daemon from living_daemons))),

-- Spares that are not reserved and that no session has ever entered.
spares as (
    select d.id from databases d join leases l on l.id = $1 and d.template_id = l.template_id
    where d.state = 'spare' and coalesce(d.retry_at <= now(), true)
      and not exists (select from leases r where r.reset_to = d.id)
      and coalesce(pg_stat_get_db_sessions(d.oid::oid), 0) = 0),

-- One of them, if enough are left for the resets ahead. `skip locked`: a concurrent reset takes another one.
spare as (
    select d.id from databases d, ahead
    where d.id in (select id from spares) and (select count(*) from spares) > ahead.places and d.state = 'spare'
      and exists (select from leases l where l.id = $1 and l.state = 'live' and l.reset_to is null
                  and l.generation = coalesce($2, l.generation))
    order by d.id limit 1 for update of d skip locked),

-- Reserves it, if the lease has not changed since; the unique index on `reset_to` refuses a second reservation.
reserved as (
    update leases set reset_to = spare.id, renewals = renewals + 1, renewed_at = now()
    from spare where leases.id = $1 and leases.state = 'live' and leases.reset_to is null
      and leases.generation = coalesce($2, leases.generation)
    returning leases.generation + 1 as generation)

select (select generation from reserved) as reserved, l.state, l.generation, l.reset_to is not null as resetting,
       l.pool, l.template_id, l.fingerprint,
       (select coalesce(t.detail, t.state) from templates t where t.id = l.template_id and t.state <> 'ready') as lost,
       case when l.reset_to is null then clone_error(l.template_id) end as clone_error
from leases l where l.id = $1
