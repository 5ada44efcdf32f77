//! Rows: reads what the catalog holds into the types of the domain.

use pgdibs_core::database::{Database, DatabaseId, DatabaseState};
use pgdibs_core::lease::{Credentials, Lease, LeaseState};
use pgdibs_core::name::{DatabaseName, Fingerprint, InvalidName, PoolName, RoleName};
use pgdibs_core::pool::{LoginRights, Pool, PoolSettings, Strategy, StrategyChoice};
use pgdibs_core::template::{Template, TemplateId, TemplateState, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

/// Columns of a pool. Macros, because `concat!` takes literals: so every query stays a constant.
macro_rules! pool_columns {
    () => {
        "name, warm, max, spares, owner, strategy, extensions, roles, keep_templates, \
     template_max_age_seconds, login, connection_limit, sourced, dropping"
    };
}

/// A row that breaks a rule of the domain: the `check` constraints say the same, so only a hand can have written it.
fn broken(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the catalog holds an impossible {what}").into())
}

fn name(result: Result<PoolName, InvalidName>) -> Result<PoolName, sqlx::Error> {
    result.map_err(|_| broken("pool name"))
}

pub(crate) fn unsigned<T: TryFrom<i64>>(row: &PgRow, column: &str) -> Result<T, sqlx::Error> {
    T::try_from(row.try_get::<i64, _>(column)?).map_err(|_| broken(column))
}

fn small(row: &PgRow, column: &str) -> Result<u32, sqlx::Error> {
    u32::try_from(row.try_get::<i32, _>(column)?).map_err(|_| broken(column))
}

/// Times come as whole microseconds since 1970: exact, and free of a date library here.
pub(crate) fn time(row: &PgRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    row.try_get::<i64, _>(column).map(Timestamp)
}

fn maybe_time(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(column).map(|micros| micros.map(Timestamp))
}

fn maybe_oid(row: &PgRow) -> Result<Option<u32>, sqlx::Error> {
    row.try_get::<Option<i64>, _>("oid")?.map(|oid| u32::try_from(oid).map_err(|_| broken("oid"))).transpose()
}

pub(crate) fn pool(row: &PgRow) -> Result<Pool, sqlx::Error> {
    let roles: Vec<String> = row.try_get("roles")?;
    Ok(Pool {
        name: name(PoolName::parse(row.try_get("name")?))?,
        settings: PoolSettings {
            warm: small(row, "warm")?,
            max: small(row, "max")?,
            spares: small(row, "spares")?,
            owner: RoleName::parse("owner", row.try_get("owner")?).map_err(|_| broken("owner"))?,
            strategy: StrategyChoice::parse(row.try_get("strategy")?).ok_or_else(|| broken("strategy"))?,
            extensions: row.try_get("extensions")?,
            roles: roles
                .iter()
                .map(|role| RoleName::parse("roles", role).map_err(|_| broken("role")))
                .collect::<Result<_, _>>()?,
            keep_templates: small(row, "keep_templates")?,
            template_max_age_seconds: unsigned(row, "template_max_age_seconds")?,
            login: LoginRights::parse(row.try_get("login")?).ok_or_else(|| broken("login"))?,
            connection_limit: small(row, "connection_limit")?,
        },
        sourced: row.try_get("sourced")?,
        dropping: row.try_get("dropping")?,
    })
}

/// Columns of a template `t`.
macro_rules! template_columns {
    () => {
        concat!(
            "t.id, t.pool, t.fingerprint, t.state, t.name, t.oid, t.holder, \
             t.seal_requested_at is not null as seal_requested, \
             t.state = 'building' and t.seal_requested_at is null and case when t.built_by is null \
               then t.build_heard_at < now() - interval '60 s' \
               else t.built_by::int8 not in (",
            $crate::shared_sql::living_daemons!(),
            ") end as builder_silent, \
             (extract(epoch from t.build_started_at) * 1000000)::int8 as build_started_at, t.built_seconds, \
             (extract(epoch from t.built_at) * 1000000)::int8 as built_at, t.size_bytes, t.relations, \
             (extract(epoch from t.last_used_at) * 1000000)::int8 as last_used_at, \
             greatest(0, extract(epoch from now() - t.last_used_at))::int8 as unused_seconds, \
             t.strategy, t.file_copy_count, t.file_copy_ms, t.wal_log_count, t.wal_log_ms, t.detail, \
             coalesce(t.retry_at <= now(), true) as due"
        )
    };
}

pub(crate) fn template(row: &PgRow) -> Result<Template, sqlx::Error> {
    let pool = name(PoolName::parse(row.try_get("pool")?))?;
    let database: String = row.try_get("name")?;
    let strategy: Option<String> = row.try_get("strategy")?;
    let mut measured = Vec::new();
    for (kind, count, mean) in
        [(Strategy::FileCopy, "file_copy_count", "file_copy_ms"), (Strategy::WalLog, "wal_log_count", "wal_log_ms")]
    {
        let count = small(row, count)?;
        if count > 0 {
            measured.push((kind, count, row.try_get(mean)?));
        }
    }
    Ok(Template {
        id: TemplateId(row.try_get("id")?),
        fingerprint: Fingerprint::parse(row.try_get("fingerprint")?).map_err(|_| broken("fingerprint"))?,
        state: TemplateState::parse(row.try_get("state")?).ok_or_else(|| broken("template state"))?,
        name: DatabaseName::recognise(&pool, &database).ok_or_else(|| broken("template name"))?,
        pool,
        oid: maybe_oid(row)?,
        holder: row.try_get("holder")?,
        seal_requested: row.try_get("seal_requested")?,
        builder_silent: row.try_get("builder_silent")?,
        build_started_at: time(row, "build_started_at")?,
        built_seconds: row.try_get("built_seconds")?,
        built_at: maybe_time(row, "built_at")?,
        size_bytes: row.try_get::<Option<i64>, _>("size_bytes")?.and_then(|bytes| u64::try_from(bytes).ok()),
        relations: row.try_get::<Option<i64>, _>("relations")?.and_then(|count| u64::try_from(count).ok()),
        last_used_at: time(row, "last_used_at")?,
        unused_seconds: unsigned(row, "unused_seconds")?,
        strategy: strategy.as_deref().and_then(Strategy::parse),
        measured,
        detail: row.try_get("detail")?,
        due: row.try_get("due")?,
    })
}

/// Columns of a database `d`.
macro_rules! database_columns {
    () => {
        "d.id, d.pool, d.template_id, d.state, d.name, d.oid, d.slot, \
     (extract(epoch from d.keep_until) * 1000000)::int8 as keep_until, coalesce(d.keep_until <= now(), false) as keep_expired, \
     coalesce(d.keep_reason, d.reason) as reason, d.attempts, coalesce(d.retry_at <= now(), true) as due, d.last_error, \
     (extract(epoch from d.created_at) * 1000000)::int8 as created_at, \
     (extract(epoch from d.ready_at) * 1000000)::int8 as ready_at"
    };
}

pub(crate) fn database(row: &PgRow) -> Result<Database, sqlx::Error> {
    let pool = name(PoolName::parse(row.try_get("pool")?))?;
    let found: String = row.try_get("name")?;
    Ok(Database {
        id: DatabaseId(row.try_get("id")?),
        template: TemplateId(row.try_get("template_id")?),
        state: DatabaseState::parse(row.try_get("state")?).ok_or_else(|| broken("database state"))?,
        name: DatabaseName::recognise(&pool, &found).ok_or_else(|| broken("database name"))?,
        pool,
        oid: maybe_oid(row)?,
        slot: row
            .try_get::<Option<i32>, _>("slot")?
            .map(|slot| u32::try_from(slot).map_err(|_| broken("slot")))
            .transpose()?,
        keep_until: maybe_time(row, "keep_until")?,
        keep_expired: row.try_get("keep_expired")?,
        reason: row.try_get("reason")?,
        attempts: small(row, "attempts")?,
        due: row.try_get("due")?,
        last_error: row.try_get("last_error")?,
        created_at: time(row, "created_at")?,
        ready_at: maybe_time(row, "ready_at")?,
    })
}

/// Columns of a lease `l` joined with its database `d`.
macro_rules! lease_columns {
    () => {
        "l.id, l.state, l.pool, l.fingerprint, l.template_id, l.database_id, l.database_name, l.slot, \
     coalesce(l.shared_login, d.login) as login, coalesce(l.shared_password, d.password) as password, \
     l.run, l.worker, l.alias, l.holder, l.generation, l.ttl_seconds, l.renewals, l.reset_to, \
     (extract(epoch from l.acquired_at) * 1000000)::int8 as acquired_at, \
     (extract(epoch from l.renewed_at + l.ttl_seconds * interval '1 s') * 1000000)::int8 as expires_at, \
     (extract(epoch from l.ended_at) * 1000000)::int8 as ended_at, l.ended_reason"
    };
}

pub(crate) fn lease(row: &PgRow) -> Result<Lease, sqlx::Error> {
    let state = LeaseState::parse(row.try_get("state")?).ok_or_else(|| broken("lease state"))?;
    let credentials = match (row.try_get("login")?, row.try_get::<Option<String>, _>("password")?) {
        (Some(user), Some(password)) if state == LeaseState::Live => {
            Some(Credentials { user, password: password.into() })
        }
        _ => None,
    };
    Ok(Lease {
        id: row.try_get("id")?,
        state,
        pool: name(PoolName::parse(row.try_get("pool")?))?,
        fingerprint: Fingerprint::parse(row.try_get("fingerprint")?).map_err(|_| broken("fingerprint"))?,
        template: TemplateId(row.try_get("template_id")?),
        database: row.try_get::<Option<i64>, _>("database_id")?.map(DatabaseId),
        database_name: row.try_get("database_name")?,
        slot: small(row, "slot")?,
        credentials,
        run: row.try_get("run")?,
        worker: row.try_get("worker")?,
        alias: row.try_get("alias")?,
        holder: row.try_get("holder")?,
        generation: small(row, "generation")?,
        ttl_seconds: u64::from(small(row, "ttl_seconds")?),
        renewals: unsigned(row, "renewals")?,
        reset_to: row.try_get::<Option<i64>, _>("reset_to")?.map(DatabaseId),
        acquired_at: time(row, "acquired_at")?,
        expires_at: time(row, "expires_at")?,
        ended_at: maybe_time(row, "ended_at")?,
        ended_reason: row.try_get("ended_reason")?,
    })
}

pub(crate) use {database_columns, lease_columns, pool_columns, template_columns};
