-- Extensions to create, with those that they require, which come first; one that another requires goes into that one's schema unless it is
-- listed itself. `by_owner`: it is trusted, or needs no superuser. $1 their names, $2 their schemas, or null
with recursive available as materialized (
    select v.name::text collate "C" as name, v.trusted or not v.superuser as by_owner, v.requires::text[] as requires
    from pg_catalog.pg_available_extensions e
         join pg_catalog.pg_available_extension_versions v on v.name = e.name and v.version = e.default_version),
needed (name, schema, depth) as (
    select listed.name collate "C", listed.schema, 0 from unnest($1::text[], $2::text[]) as listed (name, schema)
    union
    select required.name collate "C", n.schema, n.depth + 1
    from needed n join available a on a.name = n.name cross join unnest(a.requires) as required (name) where n.depth < 20)
select n.name, (array_agg(n.schema order by n.depth))[1] as schema, min(n.depth) = 0 as listed,
       coalesce(bool_or(a.by_owner), false) as by_owner
from needed n left join available a on a.name = n.name group by n.name order by max(n.depth) desc, n.name
