-- The versions of the collations that the contents of a database use, from inside it: as recorded in the database, and as the server's library
-- has them. Null: none has a version. On Postgres 14 also the database's own collation, of which that release records no version.
with used as materialized (
    select c.oid, c.collname, c.collversion from pg_catalog.pg_collation c
    where c.collprovider <> 'd' and (
       exists (select from pg_catalog.pg_depend d
               where d.refclassid = 'pg_catalog.pg_collation'::pg_catalog.regclass and d.refobjid = c.oid)
       -- Postgres records no dependency on those with fixed oids, such as "unicode". An index has attributes too.
       or exists (select from pg_catalog.pg_attribute a where a.attcollation = c.oid and a.attrelid >= 16384::pg_catalog.oid)
       or (pg_catalog.current_setting('server_version_num'::pg_catalog.text) < '15' and c.collprovider = 'c'
           and c.collcollate = (select b.datcollate from pg_catalog.pg_database b where b.datname = pg_catalog.current_database()))))
select pg_catalog.string_agg(versions, ', '::pg_catalog.text order by oid) from (
    select oid, pg_catalog.concat_ws(' '::pg_catalog.text, collname::pg_catalog.text, coalesce(collversion, 'unknown'),
                                     pg_catalog.pg_collation_actual_version(oid)) as versions
    from used where collversion is not null or pg_catalog.pg_collation_actual_version(oid) is not null) named
