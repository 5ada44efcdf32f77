-- The catalog of pgdibs: the single source of truth about pools, templates, databases and leases, on the server that holds the databases.
--
-- It stores intent (a row is committed before `create database`, and deleted only after the server has no database of that name),
-- identity (the oid; names pass from one database to the next), and the holders. It does not store what a query can read from the server
-- (sessions, present sizes), nor wake-ups, which are in memory.
-- ARCHITECTURE.md has the rules of conduct; each `check` here says the same as the type of that name in pgdibs-core.

-- One number per clone, build and login, so that no name with a number is used twice.
create sequence numbers;

-- A password of 244 random bits: two UUIDs of version 4, from the server's strong random source, behind the mark by which a scanner
-- recognises a leaked one (`PASSWORD_PREFIX` in scram.rs). It needs no escaping in a URL. The server makes each password where it stores it,
-- so that none is a parameter of a statement, which `log_statement = all` would write down.
create function new_password() returns text language sql volatile
    return 'pgdibspw' || replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');

-- `moment`, shifted by a jump of the server's clock, unless it was written (at `written`) after the jump: after a jump forward, a time
-- before it is further back than the jump; after a jump backward, it is in the future.
create function shifted(moment timestamptz, written timestamptz, jump_us bigint) returns timestamptz language sql stable
    return case
        when jump_us > 0 and written <= now() - jump_us * interval '1 us' or jump_us < 0 and written > now()
        then moment + jump_us * interval '1 us' else moment end;

create table pools (
    name                     text primary key check (name ~ '^[a-z_][a-z0-9_]{0,39}$'),
    warm                     integer not null check (warm between 0 and max),
    max                      integer not null check (max between 1 and 1000),
    spares                   integer not null check (spares between 0 and 1000),
    owner                    text not null,
    strategy                 text not null check (strategy in ('auto', 'file_copy', 'wal_log')),
    -- Names, and for each its schema, or null for the usual one.
    extensions               text[] not null,
    extension_schemas        text[] not null default '{}',
    roles                    text[] not null,
    keep_templates           integer not null,
    template_max_age_seconds bigint not null,
    -- A pool that nothing has used for this long keeps its templates alone.
    idle_pool_seconds        bigint not null default 86400,
    -- What the logins of its leases may do beyond their own database; databases that such a login created are dropped with it.
    login                    text not null check (login in ('plain', 'createdb', 'superuser')),
    -- The role that the sessions of its leases act as.
    act_as                   text not null default 'owner' check (act_as in ('owner', 'login')),
    -- Of templates that are built from now on. Empty: that of template0.
    locale                   text not null default '',
    encoding                 text not null default '',
    icu_locale               text not null default '',
    -- Connections of each login at once. 0: no limit.
    connection_limit         integer not null check (connection_limit between 0 and 10000),
    -- A daemon builds this pool's templates from a source in its configuration.
    sourced                  boolean not null default false,
    -- `DELETE /v1/pools` was called: everything in it retires, and this row is deleted last.
    dropping                 boolean not null default false,
    -- The last PUT of it, of one of its templates by a client, or of a run that announced it; or the begin or end of a lease.
    used_at                  timestamptz not null default now(),
    -- The template that a client's PUT named or a seal published last: requests without fingerprint get it. Not a foreign key: a template
    -- that is gone leaves its number here, and then the newest ready one counts.
    current_template         bigint,
    created_at               timestamptz not null default now()
);

-- Roles that pgdibs created for pools (the template's owner, extra roles). Only these are granted to logins.
create table roles (
    name text primary key
);

create table templates (
    id                bigint primary key,
    pool              text not null references pools,
    fingerprint       text not null check (char_length(fingerprint) between 1 and 200),
    state             text not null check (state in ('building', 'ready', 'retiring', 'failed')),
    -- Present name on the server: `_build_<id>` until the seal publishes it, `_old_<id>` once it retires.
    name              text not null unique,
    -- Null before `create database` and after the drop.
    oid               bigint,
    -- The builder proves itself with this; the daemon's own builds have one as well.
    token             text not null,
    holder            text not null default '',
    -- Instance (see tickets.daemon) of the daemon that builds it; such a build lives as long as that daemon's session.
    built_by          integer,
    password          text not null default new_password(),
    -- The database that the daemon copies, whose encoding and locale the template has.
    copy_of           text,
    build_started_at  timestamptz not null default now(),
    -- Last heartbeat of a builder over HTTP: PUT, renew, or a session seen on its database.
    build_heard_at    timestamptz not null default now(),
    seal_requested_at timestamptz,
    -- What `create database … template` does not copy and every clone gets again: `name=value` of ALTER DATABASE SET, and
    -- the settings of roles in this database as `role=name=value`.
    settings          text[] not null default '{}',
    -- Grants on the database itself, as `role=privileges` with Postgres's privilege letters.
    grants            text[] not null default '{}',
    -- Chosen copy strategy, null while it is being measured.
    strategy          text check (strategy in ('file_copy', 'wal_log')),
    file_copy_count   integer not null default 0,
    file_copy_ms      double precision not null default 0,
    wal_log_count     integer not null default 0,
    wal_log_ms        double precision not null default 0,
    -- Seconds of the first clone; of a large template (template.rs in pgdibs-core), of the last one, with the bytes of disk that it took, if
    -- the daemon could measure them.
    clone_seconds     double precision,
    clone_bytes       bigint,
    built_seconds     double precision,
    size_bytes        bigint,
    relations         bigint,
    -- The versions of the collations that its contents use, as the seal found them (collations.rs), and as the last leader did. Null:
    -- it uses none that has versions.
    collations        text,
    collations_found  text,
    built_at          timestamptz,
    last_used_at      timestamptz not null default now(),
    -- A lease was requested of it.
    leased            boolean not null default false,
    -- Why it failed or retires.
    detail            text,
    -- The output of a daemon's build.
    log               text,
    -- The inputs of its fingerprint, if its builder has named them, as `hash name`.
    inputs            text[] not null default '{}',
    -- How they differ from those of the template with this fingerprint, which the pool built before: `~name` changed, `+name` added,
    -- `-name` removed, and how many more of them. Kept here, because that template may be dropped.
    changed_since     text,
    input_changes     text[] not null default '{}',
    more_changes      integer not null default 0,
    attempts          integer not null default 0,
    retry_at          timestamptz,
    check ((state = 'ready') <= (oid is not null and built_at is not null))
);
-- One build, one template per fingerprint; also what makes two concurrent PUTs have one builder.
create unique index templates_one_per_fingerprint on templates (pool, fingerprint) where state in ('building', 'ready');

create table databases (
    id            bigint primary key,
    pool          text not null references pools,
    template_id   bigint not null references templates,
    state         text not null
        check (state in ('creating', 'spare', 'ready', 'leased', 'retiring', 'kept', 'blocked')),
    name          text not null unique,
    oid           bigint,
    -- The slot whose name it carries at present.
    slot          integer check (slot >= 0),
    -- Its login. A reset exchanges the logins of the two databases, so that the lease keeps its URL.
    login         text not null,
    password      text not null default new_password(),
    -- The SCRAM verifier that the login was created with: a holder may change its password, and a reset sets it back.
    verifier      text,
    -- Set by a keep: until when, why, and the login that opens the database then.
    keep_until    timestamptz,
    -- When `keep_until` was written, by the server's clock at that time: decides whether a clock jump shifts it.
    kept_at       timestamptz,
    keep_reason   text,
    -- The lease that it is kept for.
    keep_lease    uuid,
    keep_login    text,
    keep_password text,
    -- Why it retires or is blocked.
    reason        text,
    attempts      integer not null default 0,
    retry_at      timestamptz,
    last_error    text,
    created_at    timestamptz not null default now(),
    ready_at      timestamptz,
    clone_seconds double precision,
    check ((state in ('spare', 'ready', 'leased', 'kept')) <= (oid is not null)),
    check ((state in ('ready', 'leased')) <= (slot is not null)),
    check ((state in ('creating', 'spare')) <= (slot is null)),
    check ((state = 'kept') <= (keep_until is not null))
);
create unique index databases_one_per_slot on databases (pool, slot) where slot is not null;
create index databases_by_template on databases (template_id, state);
-- In the order in which acquires try them.
create index databases_ready on databases (template_id, slot) where state = 'ready';

create table leases (
    id            uuid primary key,
    pool          text not null,
    fingerprint   text not null,
    template_id   bigint not null,
    -- Null once the lease has ended and the row of its database is deleted.
    database_id   bigint references databases on delete set null,
    database_name text not null,
    slot          integer not null,
    run           text,
    worker        text,
    alias         text not null,
    holder        text not null,
    state         text not null check (state in ('live', 'released', 'expired', 'revoked')),
    generation    integer not null default 1,
    ttl_seconds   integer not null check (ttl_seconds between 1 and 3600),
    -- Incremented by each renewal; the reconciler measures on its own monotonic clock how long it stays the same.
    renewals      bigint not null default 0,
    -- A reset in progress: the spare that enters the slot. The leader rolls it forward.
    reset_to      bigint unique references databases,
    -- One login for all leases of a batch, for tools that derive the names of their databases themselves. Null: the database's own.
    shared_login    text,
    shared_password text,
    shared_verifier text,
    acquired_at   timestamptz not null default now(),
    renewed_at    timestamptz not null default now(),
    ended_at      timestamptz,
    ended_reason  text,
    check ((state = 'live') = (ended_at is null)),
    check ((reset_to is not null) <= (state = 'live'))
);
-- Idempotency: the key names the caller.
create unique index leases_one_per_key on leases (pool, run, coalesce(worker, ''), alias) where state = 'live' and run is not null;
-- A database is leased at most once.
create unique index leases_one_per_database on leases (database_id) where state = 'live';
create index leases_by_end on leases (ended_at);
-- Deleting a database row looks for the leases that refer to it (`on delete set null`), and leases are kept for a day.
create index leases_by_database on leases (database_id);
-- A request that names no template gets that of its run's last lease.
create index leases_by_run on leases (run, pool, acquired_at) where run is not null;

create table tickets (
    id          bigint generated always as identity primary key,
    pool        text not null,
    template_id bigint not null references templates on delete cascade,
    count       integer not null check (count > 0),
    kind        text not null check (kind in ('acquire', 'exact', 'reset')),
    -- The instance that waits. It holds a session advisory lock on this number while it runs.
    daemon      integer not null,
    -- Who waits, for display.
    run         text,
    worker      text,
    holder      text not null default '',
    created_at  timestamptz not null default clock_timestamp()
);
create index tickets_by_template on tickets (template_id, id);

-- What runs announced that they will need; lapses 60 s after the last PUT unless the run has leases.
create table announced_runs (
    run         text not null,
    pool        text not null references pools on delete cascade,
    fingerprint text,
    wanted      integer not null check (wanted > 0),
    put_at      timestamptz not null default now(),
    primary key (run, pool)
);

-- What runs said about themselves at their end: the last 200 of each pool, which each report trims.
create table run_reports (
    id          bigint generated always as identity primary key,
    run         text not null,
    pool        text not null references pools on delete cascade,
    holder      text not null,
    -- Times and workers, as in the API.
    figures     jsonb not null,
    reported_at timestamptz not null default now(),
    unique (run, pool)
);
create index run_reports_by_pool on run_reports (pool, id);

-- Runs that have ended: later acquires get 410. Deleted with the leases after 24 hours.
create table ended_runs (
    run      text primary key,
    ended_at timestamptz not null default now()
);

-- Whether the server's libraries sort otherwise than when the database with this oid was created, or may do so: an upgrade of its image or its
-- packages changes that. `create database` refuses such a database as a template. Postgres 14 records no version of a database.
create function collation_changed(oid) returns boolean language plpgsql stable as $$
begin
    if current_setting('server_version_num')::int < 150000 then
        return false;
    end if;
    return coalesce((select d.datcollversion is distinct from pg_database_collation_actual_version(d.oid) from pg_database d where d.oid = $1), false);
end $$;

-- Whether the server has a ready database with this oid and name, whose login can log in, and that no user session has ever entered.
-- (Autovacuum has no user and does not count; the number of backends, which is cheap to read, includes it.) In PL/pgSQL, which keeps the
-- plan, and evaluates it for one candidate after the other.
create function is_untouched(database bigint, name text, login text) returns boolean language plpgsql stable as $$
begin
    return exists (select from pg_database p where p.oid = database::oid and p.datname = name::name and p.datconnlimit <> -2)
        and coalesce(pg_stat_get_db_sessions(database::oid), 0) = 0
        and exists (select from pg_roles r where r.rolname = login::name and r.rolcanlogin)
        and (pg_stat_get_db_numbackends(database::oid) = 0
             or not exists (select from pg_stat_activity a where a.datid = database::oid and a.usesysid is not null));
end $$;

-- Why no clone of a template can be made: all that are to be made have failed three times, and none is left. In PL/pgSQL, which keeps the
-- plan: a function in SQL with an aggregate is planned again at each call (before Postgres 18).
create function clone_error(template bigint) returns text language plpgsql stable as $$
begin
    return (select max(last_error) filter (where state = 'blocked' and oid is null) from databases where template_id = template
            having bool_or(state = 'blocked' and oid is null) and not bool_or(state in ('spare', 'ready') or state = 'creating'));
end $$;

-- Whether a run goes on. It then does not end before the transaction does: `runs::end` locks the same key exclusively. Volatile, so that the
-- second statement sees what was committed before the lock, also when the calling statement began earlier.
create function run_goes_on(run_id text) returns boolean language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock_shared(1885824114, hashtext(run_id));
    return not exists (select from ended_runs where run = run_id);
end $$;

-- What the steps check and write around their DDL, as functions, so that one message to the server has all of it: `select expect_databases(…);
-- alter database …; select used_left(…)`. Each raises PD001 when the server or the rows are not as the step expects; the step is stale then, and
-- its transaction changes nothing. Each statement of a volatile function sees what was committed before it, also after a wait for a lock.

-- Locks the rows of databases until the end of the transaction, and compares their names and states. A leased one has a reset in progress.
create function expect_databases(ids bigint[], names text[], states text[]) returns void language plpgsql volatile as $$
begin
    perform from databases d where d.id = any(ids) order by d.id for update;
    if (select count(*) from unnest(ids, names, states) as e (id, name, state)
        join databases d on d.id = e.id and d.name = e.name and d.state = e.state
        where d.state <> 'leased' or exists (select from leases l where l.database_id = d.id and l.reset_to is not null)) <> cardinality(ids) then
        raise exception using errcode = 'PD001', message = 'a database of the step has another state or another name now';
    end if;
end $$;

-- DDL goes by name: whether each name is that of the database in the row. An administrator may have renamed one and put another under its name.
create function expect_oids(ids bigint[], names text[]) returns void language plpgsql volatile as $$
begin
    if (select count(*) from unnest(ids, names) as e (id, name) join databases d on d.id = e.id
        join pg_database p on p.datname = e.name::name and p.oid = d.oid::oid) <> cardinality(ids) then
        raise exception using errcode = 'PD001', message = 'a database of the step has another name now';
    end if;
end $$;

-- A used database has left its slot under another name.
create function used_left(used bigint, away text, keeps boolean) returns void language plpgsql volatile as $$
begin
    perform expect_oids(array[used], array[away]);
    update databases d set name = away, slot = null, attempts = 0, retry_at = null,
        state = case when d.state = 'kept' and not keeps then 'retiring' else d.state end
    where d.id = used;
end $$;

-- A spare has entered a slot, if no reset has reserved it: a reset reserves under the row's lock without changing the row.
create function spare_entered(spare bigint, entered text, number integer) returns void language plpgsql volatile as $$
begin
    perform expect_oids(array[spare], array[entered]);
    update databases d set state = 'ready', name = entered, slot = number, ready_at = now(), attempts = 0, retry_at = null
    where d.id = spare and not exists (select from leases l where l.reset_to = spare);
    if not found then
        raise exception using errcode = 'PD001', message = 'the spare was reserved for a reset';
    end if;
end $$;

-- A ready database has moved to another slot; a ready one there has the slot and the name that it left.
create function moved(database bigint, entered text, number integer, displaced bigint) returns void language plpgsql volatile as $$
declare
    left_name text;
    left_number integer;
begin
    select d.name, d.slot into left_name, left_number from databases d where d.id = database;
    perform expect_oids(array[database], array[entered]);
    if displaced is not null then
        perform expect_oids(array[displaced], array[left_name]);
        -- Slot and name are unique, so this row leaves both before the other gets them.
        update databases d set state = 'spare', name = d.pool || '_spare_' || d.id, slot = null where d.id = displaced;
    end if;
    update databases d set name = entered, slot = number, attempts = 0, retry_at = null where d.id = database;
    update databases d set state = 'ready', name = left_name, slot = left_number, attempts = 0, retry_at = null where d.id = displaced;
end $$;

-- Locks the lease of a reset, before its databases.
create function expect_reset(lease uuid, used bigint, spare bigint) returns void language plpgsql volatile as $$
begin
    perform from leases l where l.id = lease and l.state = 'live' and l.reset_to = spare and l.database_id = used for update;
    if not found then
        raise exception using errcode = 'PD001', message = 'the reset is done, or the lease has ended';
    end if;
end $$;

-- The reserved spare has the slot and the name of the used database. The two exchange their logins: the used one gets the spare's, which no
-- holder knows.
create function reset_done(lease uuid, used bigint, away text, keeps boolean, spare bigint) returns void language plpgsql volatile as $$
declare
    entered text;
    number integer;
begin
    select d.name, d.slot into entered, number from databases d where d.id = used;
    perform expect_oids(array[used, spare], array[away, entered]);
    -- Slot and name are unique, so the spare gets them in a statement of its own.
    update databases d set login = o.login, password = o.password, verifier = o.verifier, attempts = 0, retry_at = null,
        name = case d.id when used then away else d.name end, slot = null,
        state = case when d.id = used then case when keeps then 'kept' else 'retiring' end else d.state end,
        reason = case d.id when used then 'its lease was reset' else d.reason end
    from databases o where (d.id = used and o.id = spare) or (d.id = spare and o.id = used);
    update databases d set name = entered, slot = number, state = 'leased', ready_at = now() where d.id = spare;
    update leases l set database_id = spare, generation = l.generation + 1, reset_to = null, renewals = l.renewals + 1, renewed_at = now()
    where l.id = lease;
end $$;

-- A clone is complete: a spare.
create function cloned(clone bigint, with_verifier text, seconds double precision) returns void language plpgsql volatile as $$
begin
    update databases d set state = 'spare', oid = s.oid::int8, clone_seconds = seconds, attempts = 0, retry_at = null,
        last_error = null, reason = null, verifier = with_verifier
    from server_databases s
    where d.id = clone and d.state in ('creating', 'blocked') and d.oid is null and s.name = d.name and s.ours;
    if not found then
        raise exception using errcode = 'PD001', message = 'the row of the clone has changed';
    end if;
end $$;

-- The views below are what several statements share. Views and not repeated text, so that a rule exists once. Statements read them with
-- `*`: a migration that adds a column to one creates it under another name, since a daemon that runs has prepared statements on it.

-- The instances of the daemons that run: each holds the advisory lock with the key pair ("pgdb", instance). Reading all locks of the
-- server is costly, so a statement uses it once, as `in (select daemon from living_daemons)`, and tests `daemon = <own> or` before it.
create view living_daemons as
select l.objid::int8 as daemon from pg_locks l
where l.locktype = 'advisory' and l.granted and l.classid = 1885824098 and l.objsubid = 2
  and l.database = (select oid from pg_database where datname = current_database());

-- The template of a request of `run_id` (or null) that names none: the one that its run announced or leased last (`of_run`), else the pool's
-- current one, else its newest. No row: there is no such pool. `others`: templates of the pool that callers use beside the current one; with
-- one of those the request has to name a template. A daemon that builds the pool's templates has named its own. Tickets of a dead daemon do not
-- count, nor does an announcement that has lapsed; a run with leases is in use by these. In PL/pgSQL, which keeps the plan.
create function template_choice(pool_name text, run_id text, own_daemon integer)
returns table (of_run text, "current" text, others text[]) language plpgsql stable as $$
declare
    newest bigint;
    is_sourced boolean;
begin
    if run_id is not null then
        of_run := coalesce(
            (select a.fingerprint from announced_runs a where a.run = run_id and a.pool = pool_name),
            (select l.fingerprint from leases l where l.run = run_id and l.pool = pool_name order by l.acquired_at desc limit 1));
    end if;
    select p.sourced, t.id, t.fingerprint into is_sourced, newest, "current"
    from pools p left join templates t on t.pool = p.name and t.state in ('ready', 'building')
    where p.name = pool_name and not p.dropping
    order by t.state = 'ready' desc nulls last, t.id is not distinct from p.current_template desc, t.built_at desc nulls last, t.id desc limit 1;
    if not found then
        return;
    end if;
    others := '{}';
    -- Most pools have one template, which needs no look at its users.
    if of_run is null and not is_sourced
        and exists (select from templates o where o.pool = pool_name and o.id <> newest and o.state in ('ready', 'building'))
    then
        others := array(
            select o.fingerprint from templates o
            where o.pool = pool_name and o.id <> newest and o.state in ('ready', 'building') and (
                exists (select from databases d where d.template_id = o.id and d.state = 'leased')
                or exists (select from tickets t where t.template_id = o.id and t.kind <> 'reset'
                    and (t.daemon = own_daemon or t.daemon::int8 in (select daemon from living_daemons)))
                or exists (select from announced_runs r
                    where r.pool = pool_name and r.fingerprint = o.fingerprint and r.put_at > now() - interval '60 s'))
            order by o.fingerprint);
    end if;
    return next;
end $$;

-- The databases of the server. `ours`: pgdibs created it, which its owner role says from `create database` on. `invalid`: its drop was
-- interrupted. `made_by_tests`: the tests of a lease created it, so its owner is the login of a lease, or the owner role of a pool whose
-- logins may create databases. That role has to be older than the database, because another role may have given it the database. (Oids are
-- assigned in order and wrap around at 2^32.) A login that is a superuser may have given its own database to any role; that one has a row.
-- Without a join: a daemon keeps its plans, and one that was made for a few databases would compare a thousand with a thousand roles.
create view server_databases as
select d.oid, d.datname as name, pg_get_userbyid(d.datdba) as owner, pg_get_userbyid(d.datdba) = 'pgdibs_owner' as ours, d.datconnlimit = -2 as invalid,
       d.datallowconn as open, d.datistemplate as is_template,
       (pg_get_userbyid(d.datdba) ~ '^pgdibs_l_[0-9]+$' or pg_get_userbyid(d.datdba)::text in (
           select n.name from roles n join pools p on p.owner = n.name where p.login <> 'plain')
         and (d.oid::int8 - d.datdba::int8 + 4294967296) % 4294967296 < 2147483648)
         and d.oid::int8 not in (select b.oid from databases b where b.oid is not null) as made_by_tests
from pg_database d;

-- `builder_silent`: the heartbeats of a builder over HTTP stopped 60 s ago, or the daemon that builds has ended.
-- `due`: a failed step may be tried again.
create view template_details as
select t.id, t.pool, t.fingerprint, t.state, t.name, t.oid, t.token, t.holder, t.seal_requested_at is not null as seal_requested,
       t.state = 'building' and t.seal_requested_at is null and case when t.built_by is null
           then t.build_heard_at < now() - interval '60 s'
           else t.built_by::int8 not in (select daemon from living_daemons) end as builder_silent,
       t.build_started_at, t.built_seconds, t.built_at, t.size_bytes, t.relations, t.last_used_at,
       greatest(0, extract(epoch from now() - t.last_used_at))::int8 as unused_seconds, t.leased,
       t.strategy, t.file_copy_count, t.file_copy_ms, t.wal_log_count, t.wal_log_ms,
       t.clone_seconds, t.clone_bytes, t.detail, coalesce(t.retry_at <= now(), true) as due,
       t.state = 'ready' and (t.collations is distinct from t.collations_found or collation_changed(t.oid::oid)) as collations_changed,
       case when t.state = 'ready' then clone_error(t.id) end as clone_error,
       t.changed_since, t.input_changes, t.more_changes
from templates t;

-- A lease with the login that opens its database.
create view lease_details as
select l.id, l.pool, l.fingerprint, l.template_id, l.database_id, l.database_name, l.slot, l.run, l.worker, l.alias, l.holder, l.state,
       l.generation, l.ttl_seconds, l.renewals, l.reset_to, l.acquired_at, l.renewed_at, l.ended_at, l.ended_reason,
       coalesce(l.shared_login, d.login) as login, coalesce(l.shared_password, d.password) as password
from leases l left join databases d on d.id = l.database_id;
