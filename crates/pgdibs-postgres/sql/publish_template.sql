-- Publishes a sealed build, with what `create database … template` does not copy and every clone gets again.
-- $1 template, $2 the name it has now, $3 its number of relations, $4 its oid, $5 the pool's owner role, $6 the builder's login,
-- $7 the versions of its collations
--
-- `settings`: those of `alter database … set`, those of the owner in all databases, and those of the owner and the builder in this one: a
-- clone's login is neither, so it gets these as settings of the database; the later ones win, as they do at a login. Not which role a session acts as or which
-- library it loads: as a setting of the database that would hold for every role that enters a clone, also for the daemon's.
-- `grants`: those on the database beyond the ones that every clone gets, as `privilege,grantable,role`.
update templates set state = 'ready', name = $2, relations = $3, collations = $7, collations_found = $7, size_bytes = pg_database_size($4::oid), built_at = clock_timestamp(),
       last_used_at = now(), built_seconds = extract(epoch from clock_timestamp() - build_started_at), detail = null,
       settings = array(
           select setting from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole cross join unnest(s.setconfig) setting
           where (s.setdatabase = $4 and (s.setrole = 0 or r.rolname in ($5, $6)) or s.setdatabase = 0 and r.rolname = $5)
             and lower(split_part(setting, '=', 1)) not in ('role', 'session_authorization', 'local_preload_libraries')
           order by s.setrole <> 0, s.setdatabase <> 0),
       grants = array(
           select a.privilege_type || ',' || a.is_grantable || ',' || r.rolname
           from pg_database d, aclexplode(d.datacl) a join pg_roles r on r.oid = a.grantee
           where d.oid = $4 and r.rolname not in ($5, $6) and a.grantee <> d.datdba order by 1)
where id = $1
