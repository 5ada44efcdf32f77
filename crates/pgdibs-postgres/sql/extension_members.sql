-- The members of an extension on which a pool's owner gets rights: tables and sequences, and the schemas that it cannot enter; foreign-data
-- wrappers only where `$3` is set, with which it can make servers. $1 the extension, $2 the owner, $3 whether the pool lists it
with extension as (select oid, extnamespace from pg_catalog.pg_extension where extname = $1::pg_catalog.name),
member as (
    select d.classid, d.objid from pg_catalog.pg_depend d join extension e on d.refobjid = e.oid
    where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e')
select c.relkind::pg_catalog.text as kind, n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name
from member m join pg_catalog.pg_class c on c.oid = m.objid and m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'S')
union all
select 'n', '', n.nspname::pg_catalog.text from pg_catalog.pg_namespace n
where (n.oid in (select extnamespace from extension)
       or n.oid in (select objid from member where classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass))
  and not pg_catalog.has_schema_privilege($2::pg_catalog.name, n.oid, 'usage'::pg_catalog.text)
union all
select 'w', '', w.fdwname::pg_catalog.text
from member m join pg_catalog.pg_foreign_data_wrapper w
     on w.oid = m.objid and m.classid = 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass
where $3::pg_catalog.bool
