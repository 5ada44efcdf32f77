-- Tenants' sessions with more entries in the lock table than the settings allot to one session, while the table is full: the largest first.
-- $1 the entries of the whole table

-- Entries by process; locks of the fast path are not in the table. Used twice: for the sum, and for each session.
held as materialized (
    select pid, count(*) as entries from pg_locks where not fastpath group by pid)

select s.*, h.entries from held h join session s on s.pid = h.pid
where (select sum(entries) from held) >= $1 and h.entries > current_setting('max_locks_per_transaction')::int and s.is_tenant
order by h.entries desc
