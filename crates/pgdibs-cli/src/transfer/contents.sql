-- What the dump of a template does not have, as one JSON object, from a clone; and what a build has to have for a template to fit.
-- psql's variables: `owner`, the pool's owner role, and `roles`, its other roles, as a JSON array.
with me as (
    select d.*, to_jsonb(d) as columns from pg_catalog.pg_database d where datname = current_database()),
other_role as (
    select r.oid, r.rolname from pg_catalog.pg_roles r where r.rolname in (select json_array_elements_text(:'roles'))),
-- What those roles own in schemas of others than theirs, beside `public`, where each build lets them create.
object (schema, owner) as (
    select relnamespace, relowner from pg_catalog.pg_class union select pronamespace, proowner from pg_catalog.pg_proc
    union select typnamespace, typowner from pg_catalog.pg_type union select oprnamespace, oprowner from pg_catalog.pg_operator
    union select collnamespace, collowner from pg_catalog.pg_collation union select opcnamespace, opcowner from pg_catalog.pg_opclass
    union select opfnamespace, opfowner from pg_catalog.pg_opfamily union select stxnamespace, stxowner from pg_catalog.pg_statistic_ext),
owned as (
    select n.nspname, o.rolname, has_schema_privilege(o.oid, n.oid, 'create') as may_create
    from object join other_role o on o.oid = object.owner join pg_catalog.pg_namespace n on n.oid = object.schema
    where n.nspowner <> o.oid and n.nspname <> 'public' and n.nspname !~ '^pg_'),
setting as (
    select split_part(text, '=', 1) as name, substr(text, strpos(text, '=') + 1) as value
    from me join pg_catalog.pg_db_role_setting s on s.setdatabase = me.oid and s.setrole = 0 cross join unnest(s.setconfig) text),
-- What follows the dump.
after (place, statement) as (
    select 1, format('revoke create on schema %I from %I;', nspname, rolname) from owned where not may_create
    union all
    select 2, format('alter table %I.%I force row level security;', n.nspname, c.relname)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relforcerowsecurity
    union all
    -- Local to one transaction: a search_path would hold for the rest.
    select 3, 'begin;' from setting having count(*) > 0
    union all select 4, format('select pg_catalog.set_config(%L, %L, true);', name, value) from setting
    union all select 5, format('alter role current_user in database :"DBNAME" set %I from current;', name) from setting
    union all select 6, 'commit;' from setting having count(*) > 0)
select json_build_object(
    'database', json_build_object(
        'encoding', pg_encoding_to_char(me.encoding), 'collate', me.datcollate, 'ctype', me.datctype, 'provider', columns ->> 'datlocprovider',
        'locale', coalesce(columns ->> 'datlocale', columns ->> 'daticulocale'), 'icu_rules', columns ->> 'daticurules'),
    'extensions', (select coalesce(json_object_agg(extname, extversion), '{}') from pg_catalog.pg_extension),
    'available', (
        select coalesce(json_object_agg(name, coalesce(installed_version, default_version)), '{}') from pg_catalog.pg_available_extensions),
    'schemas', (
        select coalesce(json_agg(json_build_array(nspname, grants)), '[]')
        from (select nspname, string_agg(format(E'grant create on schema %I to %I;\n', nspname, rolname), '') as grants
              from owned group by nspname) granted),
    'after', (select coalesce(json_agg(statement order by place, statement), '[]') from after),
    'grants', (
        select coalesce(json_agg(format('grant %s on database :"DBNAME" to %I%s;', a.privilege_type, r.rolname,
            case when a.is_grantable then ' with grant option' else '' end)), '[]')
        from aclexplode(me.datacl) a join pg_catalog.pg_roles r on r.oid = a.grantee
        where a.grantee <> me.datdba and r.rolname not in (:'owner', session_user)),
    'other_owners', (
        select coalesce(json_agg(distinct r.rolname), '[]')
        from pg_catalog.pg_shdepend d join pg_catalog.pg_roles r on r.oid = d.refobjid and d.refclassid = 'pg_authid'::regclass
        where d.dbid = me.oid and d.deptype = 'o' and d.classid <> 'pg_extension'::regclass
          and r.rolname <> :'owner' and r.oid not in (select oid from other_role)
          and not exists (select from pg_catalog.pg_depend e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e')))
from me;
