-- The catalog of pgdibs: one truth about pools, templates, databases and leases, on the very server whose databases they are.
--
-- What do we store? Intent (a row is committed before `create database` and deleted only after the name is gone from the
-- server), identity (the oid; names pass from one database to the next), and who holds what. What we do not store: anything
-- that can be asked of the server (sessions, sizes at present), and whom to wake (that is memory).
-- Rules on conduct stand in ARCHITECTURE.md; each `check` here says the same as the type of that name in pgdibs-core.

-- One number per clone, build and login, for ever: a name that carries it is never given twice.
create sequence numbers;

create table pools (
    name                     text primary key check (name ~ '^[a-z_][a-z0-9_]{0,39}$'),
    warm                     integer not null check (warm between 0 and max),
    max                      integer not null check (max between 1 and 1000),
    spares                   integer not null check (spares between 0 and 1000),
    owner                    text not null,
    strategy                 text not null check (strategy in ('auto', 'file_copy', 'wal_log')),
    extensions               text[] not null,
    roles                    text[] not null,
    keep_templates           integer not null,
    template_max_age_seconds bigint not null,
    -- What the logins of its leases may do beyond their own database; what such a login made is dropped with it.
    login                    text not null check (login in ('plain', 'createdb', 'superuser')),
    -- How often each of them may be connected at once. 0: no limit.
    connection_limit         integer not null check (connection_limit between 0 and 10000),
    -- Some daemon builds this pool's templates from a source in its configuration.
    sourced                  boolean not null default false,
    -- `DELETE /v1/pools` was called: everything in it retires, this row goes last.
    dropping                 boolean not null default false,
    created_at               timestamptz not null default now()
);

-- Roles that we made for pools (the template's owner, extra roles), so that a role of somebody else is never granted to a login.
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
    -- Instance (see tickets.daemon) that builds it itself; such a build lives as long as that daemon's session does.
    built_by          integer,
    password          text not null,
    build_started_at  timestamptz not null default now(),
    -- Last sign of life of a builder over HTTP: PUT, renew, or a session seen on its database.
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
    built_seconds     double precision,
    size_bytes        bigint,
    relations         bigint,
    built_at          timestamptz,
    last_used_at      timestamptz not null default now(),
    -- Why it failed or retires.
    detail            text,
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
    password      text not null,
    -- The SCRAM verifier that it was made with: a holder may change its password, and a reset sets it back.
    verifier      text,
    -- Set by a keep: until when, why, and the login that may look into it then.
    keep_until    timestamptz,
    -- When `keep_until` was written, by the server's clock of that moment: tells whether it moves when that clock is set.
    kept_at       timestamptz,
    keep_reason   text,
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

create table leases (
    id            uuid primary key,
    pool          text not null,
    fingerprint   text not null,
    template_id   bigint not null,
    -- Null once the lease has ended and its database row is gone.
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
    -- Moves with every renewal; the reconciler compares it on its own monotonic clock.
    renewals      bigint not null default 0,
    -- A reset in progress: the spare that comes in. It is rolled forward by whoever reconciles.
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
-- Dropping a database looks for the leases that name it (`on delete set null`), and leases are remembered for a day.
create index leases_by_database on leases (database_id);

create table tickets (
    id          bigint generated always as identity primary key,
    pool        text not null,
    template_id bigint not null references templates on delete cascade,
    count       integer not null check (count > 0),
    kind        text not null check (kind in ('acquire', 'exact', 'reset')),
    -- The instance that waits. It holds a session advisory lock on this number for as long as it lives.
    daemon      integer not null,
    created_at  timestamptz not null default clock_timestamp()
);
create index tickets_by_template on tickets (template_id, id);

-- What runs said they will need; lapses 60 s after the last PUT unless the run has leases.
create table announced_runs (
    run         text not null,
    pool        text not null references pools on delete cascade,
    fingerprint text,
    wanted      integer not null check (wanted > 0),
    put_at      timestamptz not null default now(),
    primary key (run, pool)
);

-- Runs that are over: later acquires get 410. Forgotten with the leases after 24 hours.
create table ended_runs (
    run      text primary key,
    ended_at timestamptz not null default now()
);
