-- What a database holds besides an empty one's: the number and the last oid of each kind of object, and the settings. initdb gives oids
-- below 16384. $1 is the builder's login, whose role may have settings. Sessions that have just ended may leave temporary objects for a moment.
select coalesce(string_agg(kind || ' ' || number || ' ' || last, ', ' order by kind), 'none') || ', settings '
       || (select coalesce(string_agg(s.setrole || ' ' || s.setconfig::text, ' ' order by s.setrole), '')
           from pg_db_role_setting s
           where s.setdatabase = (select oid from pg_database where datname = current_database()) or s.setdatabase = 0 and s.setrole in (
               select m.roleid from pg_auth_members m join pg_roles l on l.oid = m.member where l.rolname = $1))
from (
    select kind, count(*) as number, coalesce(max(oid), 0)::text as last
    from (
        select 'relations' as kind, oid, relnamespace as schema from pg_class
        union all select 'types', oid, typnamespace from pg_type
        union all select 'functions', oid, pronamespace from pg_proc
        union all select 'extensions', oid, 0 from pg_extension
        union all select 'schemas', oid, oid from pg_namespace
    ) objects
    where oid >= 16384
      and not exists (select from pg_namespace n where n.oid = schema and n.nspname ~ '^pg_(toast_)?temp_')
    group by kind
) counted
