-- The template that a request without a free database waits for: the newest ready one, or else the newest that is being built.
-- $1 pool, $2 fingerprint or null
select p.name as pool, t.id as template_id, t.fingerprint, t.state = 'building' as building from pools p
left join lateral (
    select id, fingerprint, state from templates
    where pool = p.name and state in ('ready', 'building')
      and case when $2::text is null then true else fingerprint = $2 end
    order by state = 'ready' desc, built_at desc nulls last, id desc limit 1) t on true
where p.name = $1 and not p.dropping
