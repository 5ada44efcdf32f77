-- A first migration, to be replaced by yours (MIGRATIONS in .env).
create table notes (
    id bigint generated always as identity primary key,
    body text not null,
    written_at timestamptz not null default now()
);
