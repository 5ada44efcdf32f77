-- The head of statements that end sessions of tenants. They read no table of the catalog, which a newer daemon may alter.
--
-- `is_tenant`: the session is a tenant's (the login of a lease or a build, or a role that was dropped since), and the daemon may end it. The
-- statement tests that itself, because one refused pg_terminate_backend would fail the whole statement and its transaction.
-- `began`: process ids are reused, so the session's start identifies it too.
with recursive session as (
    select a.pid, a.backend_start::text as began, coalesce(a.usename::text, 'a role that was dropped') as login,
           a.datname::text as database, coalesce(a.datid, 0)::int8 as oid,
           (a.usename ~ '^pgdibs_l_[0-9]+$' or (a.usename is null and a.usesysid is not null))
           and exists (select from pg_roles me left join pg_roles r on r.oid = a.usesysid
               where me.rolname = current_user and (me.rolsuper or (not coalesce(r.rolsuper, false)
                 and (coalesce(pg_has_role(r.oid, 'usage'), false) or pg_has_role('pg_signal_backend', 'usage'))))) as is_tenant
    from pg_stat_activity a),
