-- The template that a request without a free database waits for.
-- $1 pool, $2 fingerprint
select p.name as pool, t.id as template_id, t.fingerprint, t.state = 'building' as building from pools p
left join templates t on t.pool = p.name and t.fingerprint = $2 and t.state in ('ready', 'building')
where p.name = $1 and not p.dropping
