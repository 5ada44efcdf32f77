-- Leases one ready database, in the order of tickets, in one statement.
--
-- $1 pool, $2 fingerprint, or null for the one that `template_choice` gives, $3 template or null, $4 preferred slot or null, $5 id of the lease, $6 run, $7 worker, $8 alias,
-- $9 holder, $10 ttl, $11 own ticket (the highest number without one), $12 how many of this template the caller wants, this one included,
-- $13 the preferred slot only, $14 the caller has a ticket or has locked out other newcomers, $15 instance of this daemon

-- The live lease of the key. A key that holds one takes nothing; the unique index covers two requests at the same moment.
with holding as (
    select id from leases where state = 'live' and (id = $5 or
        pool = $1 and run = $6 and coalesce(worker, '') = coalesce($7, '') and alias = $8)),

-- Whether the run of the request goes on, until the lease is committed.
run as (
    select $6::text is null or run_goes_on($6) as goes_on),

-- The template. The lock keeps it from retiring until the lease is committed.
template as (
    select t.id, t.fingerprint from templates t join pools p on p.name = t.pool
    where p.name = $1 and not p.dropping and t.state = 'ready'
      and ($3::int8 is null or t.id = $3)
      and t.fingerprint = coalesce($2, (
          select coalesce(c.of_run, c."current") from template_choice($1, $6, $15) c where c.others = '{}'))
    for key share of t),

-- Records the use, at most every 10 s: each update leaves a dead row.
used as (
    update templates set last_used_at = now(), leased = true
    where id = (select id from template) and (last_used_at < now() - interval '10 s' or not leased) and state = 'ready'),

-- The same for the pool. `skip locked`: it waits for no other request.
used_pool as (
    update pools set used_at = now() where name = (
        select name from pools where name = $1 and used_at < now() - interval '10 s' for no key update skip locked)),

-- Databases that the waiters with earlier tickets want. Tickets of a dead daemon do not count.
ahead as (
    select coalesce(sum(t.count), 0) as places from tickets t
    where t.template_id = (select id from template) and t.kind <> 'reset' and t.id < $11
      and (t.daemon = $15 or t.daemon::int8 in (select daemon from living_daemons))),

-- How many there are for the waiters ahead and for this request. Counted only if more than one is wanted.
free as (
    select count(*) as places from databases d
    where d.template_id = (select id from template) and d.state = 'ready' and is_untouched(d.oid, d.name, d.login)),

-- Whether the request may take one: enough are left for the waiters ahead.
allowed as (
    select from ahead
    where ($14 or ahead.places = 0)
      and (ahead.places + $12 = 1 or (select free.places from free) >= ahead.places + $12)
      and (select goes_on from run)
      and not exists (select from holding)),

-- The database in the preferred slot. `skip locked`: a concurrent request takes another one.
preferred as (
    select d.id from databases d
    where d.pool = $1 and d.slot = $4 and d.template_id = (select id from template) and d.state = 'ready'
      and exists (select from allowed) and is_untouched(d.oid, d.name, d.login)
    limit 1 for update of d skip locked),

-- Otherwise that in the lowest slot. `offset 0`: one candidate after the other is checked, also by a plan that was made when there were few
-- databases, and that sorts them.
lowest as (
    select c.id from (
        select d.id, d.oid, d.name, d.login from databases d
        where d.template_id = (select id from template) and d.state = 'ready'
          and not $13 and not exists (select from preferred)
          and exists (select from allowed)
        order by d.slot
        offset 0 for update of d skip locked) c
    where is_untouched(c.oid, c.name, c.login)
    limit 1),

chosen as (
    select id from preferred union all select id from lowest),

-- Takes it out of `ready`, in the same statement that inserts the lease.
d as (
    update databases set state = 'leased' where id = (select id from chosen)
    returning databases.id, databases.pool, databases.name, databases.slot, databases.login, databases.password),

-- The lease of it.
l as (
    insert into leases (id, pool, fingerprint, template_id, database_id, database_name, slot, run, worker, alias, holder, state, ttl_seconds)
    select $5, d.pool, template.fingerprint, template.id, d.id, d.name, d.slot, $6, $7, $8, $9, 'live', $10 from d, template
    where d.pool = $1
    returning id, pool, fingerprint, template_id, database_id, database_name, slot, run, worker, alias, holder, state,
              generation, ttl_seconds, renewals, reset_to, acquired_at, renewed_at, ended_at, ended_reason),

-- The grant deletes the caller's ticket, so that no later ticket waits for a place that is free.
served as (
    delete from tickets where id = $11 and exists (select from l))

-- `contested`: enough are left beside the waiters ahead, but a concurrent newcomer may count the same ones.
select exists (select from holding) as held, not (select goes_on from run) as ended,
       template.id as wanted_template, template.fingerprint as wanted_fingerprint,
       (select ahead.places > 0 and not $14 and (select free.places from free) >= ahead.places + $12 from ahead) as contested,
       case when l.id is null then clone_error(template.id) end as clone_error,
       l.*, d.login, d.password
from (values (1)) as always left join template on true left join (l join d on d.id = l.database_id) on true
