-- Copies the rows of the first table of each domain, which stand for reference data, into a schema of their own.
do $$
declare
    name text;
begin
    create schema reference;
    for name in select tablename from pg_tables where schemaname = 'public' and tablename like '%\_owners' loop
        execute format('create table reference.%1$I as table public.%1$I', name);
        -- It refers to a table that stays empty.
        execute format('update reference.%I set parent_id = null', name);
    end loop;
end $$;
