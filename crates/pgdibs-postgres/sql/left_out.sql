-- What a copy of this database cannot have: what only a superuser could create, what would replicate the copy or connect it to other
-- servers, and what depends on that. A view depends by its rule.
with recursive omitted (class, oid, is_cause) as (
    select tableoid, oid, true from pg_event_trigger
    union all select tableoid, oid, true from pg_publication
    union all select 'pg_subscription'::regclass, oid, true from pg_subscription where subdbid = (select oid from pg_database where datname = current_database())
    union all select tableoid, oid, true from pg_foreign_server
    union all select f.tableoid, f.oid, true from pg_foreign_data_wrapper f
        where not exists (select from pg_depend d where d.classid = f.tableoid and d.objid = f.oid and d.deptype = 'e')
    union
    select coalesce(r.class, d.classid), coalesce(r.oid, d.objid), false
    from omitted o join pg_depend d on d.refclassid = o.class and d.refobjid = o.oid and d.deptype in ('n', 'a', 'i', 'P', 'S')
         left join lateral (select 'pg_class'::regclass::oid as class, ev_class as oid from pg_rewrite
             where d.classid = 'pg_rewrite'::regclass and oid = d.objid and rulename = '_RETURN') r on true
)
select distinct class::int8 as class, oid::int8 as oid, pg_describe_object(class, oid, 0) as description,
       is_cause or class in ('pg_class'::regclass, 'pg_proc'::regclass) and not exists (
           select from pg_index where indexrelid = omitted.oid) as is_reported,
       not is_cause as is_dependent
from omitted where (class, oid) is distinct from (0::oid, 0::oid)
order by 5, 3
