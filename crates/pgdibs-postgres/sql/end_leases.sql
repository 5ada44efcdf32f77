-- Ends live leases and retires their databases (or keeps them), in one statement. A reset in progress is cancelled: its spare stays a spare.
-- $1 ids, $2 the state afterwards, $3 reason, $4 the number of renewals at which the lease ends, or null for any

-- Only live leases: a lease that has ended is not ended again, and keeps its state and its reason.
with ended as (
    update leases set state = $2, ended_at = now(), ended_reason = $3, reset_to = null
    where id = any($1) and state = 'live' and ($4::int8 is null or renewals = $4) returning database_id, pool),

-- Their databases, in the same statement, so that no database of an ended lease stays `leased`.
used as (
    update databases d set state = case when d.keep_until > now() then 'kept' else 'retiring' end, reason = 'its lease was ' || $2
    from ended where d.id = ended.database_id and d.state = 'leased'),

-- Records the use of their pools, as an acquire does. `skip locked`: the drop of a pool locks its row before its leases.
recorded as (
    update pools set used_at = now() where name in (
        select p.name from pools p where p.name in (select pool from ended) and p.used_at < now() - interval '10 s'
        for no key update skip locked))

select count(*) from ended
