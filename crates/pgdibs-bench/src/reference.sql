-- Makes `reference.reload()`: it empties all tables and loads the first of each domain again, which stand for reference data.
do $$
declare
    name text;
    statements text;
begin
    select 'truncate ' || string_agg(format('public.%I', tablename), ', ') || ' restart identity' into statements
    from pg_tables where schemaname = 'public';
    create schema reference;
    for name in select tablename from pg_tables where schemaname = 'public' and tablename like '%\_owners' loop
        execute format('create table reference.%1$I as table public.%1$I', name);
        -- It refers to a table that stays empty.
        execute format('update reference.%I set parent_id = null', name);
        statements := statements || format('; insert into public.%1$I overriding system value table reference.%1$I', name);
    end loop;
    execute format('create procedure reference.reload() language sql as %L', statements);
end $$;
