-- The row of a database to drop, compared: its state, and on the server its name and the oid of the row. `invalid` is null if the
-- server has no such database; `empty`: it is closed and without a session; `foreign_owner`: its owner, if that is neither pgdibs's owner role
-- nor a role to which the database's own login, a superuser, can have given it. $1 the database
select pg_backend_pid() as process, d.pool, d.name, d.state, d.oid, array_remove(array[d.login, d.keep_login], null) as logins, s.invalid,
       not s.open and not s.is_template
         and not exists (select from pg_stat_activity a where a.datid = s.oid and a.usesysid is not null) as empty,
       case when not s.ours and not exists (select from pg_roles where rolname in (d.login, d.keep_login) and rolsuper)
            then s.owner::text end as foreign_owner,
       array(select rolname::text from pg_roles where rolname in (d.login, d.keep_login) and rolcanlogin) as open_logins,
       exists (select from pools where name = d.pool and login <> 'plain') as may_make_databases
from databases d left join server_databases s on s.oid = d.oid::oid and s.name = d.name::name
where d.id = $1 and d.state in ('retiring', 'blocked') and d.oid is not null and (d.slot is null or s.invalid)
  and not exists (select from leases where (state = 'live' and database_id = d.id) or reset_to = d.id)
