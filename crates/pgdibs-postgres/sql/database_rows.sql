-- Databases that enter or leave a slot, for fences and swaps. `has_login`: false if an administrator dropped the login, which is as good as
-- closed. `resetting`: the lease has reserved a spare. $1 ids
select d.id, d.pool, d.state, d.name, d.oid, d.slot, d.login, exists (select from pg_roles r where r.rolname = d.login) as has_login,
       coalesce(d.keep_until > now(), false) as keep, d.keep_login, d.keep_password, p.owner, p.login as may, p.act_as, d.verifier,
       exists (select from leases l where l.database_id = d.id and l.reset_to is not null) as resetting
from databases d join pools p on p.name = d.pool where d.id = any($1) order by d.id
