-- The benchmark's template: 50 tables over ten domains, each with a primary key, two indexes, a foreign key and a few rows;
-- about as large as the schema of a grown web application (13 MB).
do $$
declare
    domain text;
    kind text;
    name text;
    parent text;
begin
    foreach domain in array array['accounts', 'billing', 'catalogue', 'content', 'delivery', 'inventory', 'messaging', 'orders', 'reporting', 'support'] loop
        foreach kind in array array['owners', 'items', 'entries', 'notes', 'events'] loop
            name := domain || '_' || kind;
            execute format(
                'create table %I (
                     id bigint generated always as identity primary key,
                     parent_id bigint,
                     title varchar(200) not null,
                     state text not null default ''new'' check (state in (''new'', ''open'', ''done'', ''void'')),
                     amount numeric(12, 2) not null default 0,
                     details jsonb not null default ''{}'',
                     created_at timestamptz not null default now())', name);
            execute format('create index on %I (parent_id)', name);
            execute format('create index on %I (state, created_at)', name);
            execute format(
                'insert into %I (title, state, amount, details)
                 select %L || n, (array[''new'', ''open'', ''done''])[1 + n %% 3], n * 1.25, jsonb_build_object(''rank'', n, ''note'', repeat(''x'', 40))
                 from generate_series(1, 40) as n', name, kind || ' ');
            if parent is not null then
                execute format('update %I set parent_id = id', name);
                execute format('alter table %I add foreign key (parent_id) references %I', name, parent);
            end if;
            parent := name;
        end loop;
    end loop;
end
$$;
