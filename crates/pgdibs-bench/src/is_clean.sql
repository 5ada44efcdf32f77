-- True in a database that is as the template.
(to_regclass('left_behind') is null and (select count(*) = 40 from orders_entries)
    and (select count(*) = 50 from pg_tables where schemaname = 'public'))
