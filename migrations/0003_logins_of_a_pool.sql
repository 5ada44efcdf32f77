-- What the logins of a pool's leases may do beyond their own database, and how often each may be connected at once.
alter table pools
    -- `createdb` and `superuser` are for suites that make databases themselves; what such a login made is dropped with it.
    add column login text not null default 'plain' check (login in ('plain', 'createdb', 'superuser')),
    -- 0: no limit.
    add column connection_limit integer not null default 0 check (connection_limit between 0 and 10000);
