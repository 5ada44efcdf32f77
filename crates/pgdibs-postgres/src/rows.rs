//! Rows: reads the catalog's columns as types of the domain.

use pgdibs_core::database::{Database, DatabaseId, DatabaseState};
use pgdibs_core::inputs::InputChanges;
use pgdibs_core::lease::{Credentials, Lease, LeaseState};
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName};
use pgdibs_core::pool::{ActAs, LoginRights, LoginSettings, Strategy};
use pgdibs_core::request::TargetTemplate;
use pgdibs_core::template::{Template, TemplateId, TemplateState, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

/// 2000-01-01, from which Postgres counts time, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// A value that breaks a rule of the domain. The `check` constraints have the same rules, so only an external change can have written it.
pub(crate) fn invalid(column: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the catalog holds an impossible {column}").into())
}

pub(crate) trait Columns {
    fn parsed<T>(&self, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, sqlx::Error>;
    /// An integer of any width.
    fn maybe_number<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, sqlx::Error>;

    fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, sqlx::Error> {
        self.maybe_number(column)?.ok_or_else(|| invalid(column))
    }

    /// A `timestamptz`.
    fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
        // In the binary format it is an integer too.
        Ok(self.maybe_number::<i64>(column)?.map(|time| Timestamp(time.saturating_add(POSTGRES_EPOCH))))
    }

    fn time(&self, column: &str) -> Result<Timestamp, sqlx::Error> {
        self.maybe_time(column)?.ok_or_else(|| invalid(column))
    }

    /// The name of a role or database that may be of another encoding than the catalog, with a mark for each byte that is no UTF-8.
    fn foreign_name(&self, column: &str) -> Result<String, sqlx::Error>;

    /// Column `pool`.
    fn pool(&self) -> Result<PoolName, sqlx::Error> {
        self.parsed("pool", |text| PoolName::parse(text).ok())
    }

    /// The name of a database of column `pool`.
    fn database(&self, column: &str) -> Result<DatabaseName, sqlx::Error> {
        let pool = self.pool()?;
        self.parsed(column, |text| DatabaseName::recognise(&pool, text))
    }

    fn fingerprint(&self) -> Result<Fingerprint, sqlx::Error> {
        self.parsed("fingerprint", |text| Fingerprint::parse(text).ok())
    }

    fn role(&self, column: &str) -> Result<RoleName, sqlx::Error> {
        self.parsed(column, |text| RoleName::parse("role", text).ok())
    }

    /// Columns `may` and `act_as`: `login` and `act_as` of the pool.
    fn login_settings(&self) -> Result<LoginSettings, sqlx::Error> {
        Ok(LoginSettings {
            rights: self.parsed("may", LoginRights::parse)?,
            act_as: self.parsed("act_as", ActAs::parse)?,
        })
    }
}

impl Columns for PgRow {
    fn parsed<T>(&self, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, sqlx::Error> {
        parse(self.try_get(column)?).ok_or_else(|| invalid(column))
    }

    fn foreign_name(&self, column: &str) -> Result<String, sqlx::Error> {
        Ok(String::from_utf8_lossy(self.try_get_unchecked(column)?).into_owned())
    }

    fn maybe_number<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, sqlx::Error> {
        let number: Option<i64> = self.try_get_unchecked(column)?;
        number.map(|number| T::try_from(number).map_err(|_| invalid(column))).transpose()
    }
}

/// From `template_details`.
pub(crate) fn template(row: PgRow) -> Result<Template, sqlx::Error> {
    let mut measured = Vec::new();
    for (strategy, count, mean) in
        [(Strategy::FileCopy, "file_copy_count", "file_copy_ms"), (Strategy::WalLog, "wal_log_count", "wal_log_ms")]
    {
        let count = row.number(count)?;
        if count > 0 {
            measured.push((strategy, count, row.try_get(mean)?));
        }
    }
    Ok(Template {
        id: TemplateId(row.try_get("id")?),
        pool: row.pool()?,
        fingerprint: row.fingerprint()?,
        state: row.parsed("state", TemplateState::parse)?,
        name: row.database("name")?,
        oid: row.maybe_number("oid")?,
        holder: row.try_get("holder")?,
        seal_requested: row.try_get("seal_requested")?,
        builder_silent: row.try_get("builder_silent")?,
        build_started_at: row.time("build_started_at")?,
        built_seconds: row.try_get("built_seconds")?,
        built_at: row.maybe_time("built_at")?,
        size_bytes: row.maybe_number("size_bytes")?,
        relations: row.maybe_number("relations")?,
        last_used_at: row.time("last_used_at")?,
        unused_seconds: row.number("unused_seconds")?,
        leased: row.try_get("leased")?,
        strategy: row.try_get::<Option<&str>, _>("strategy")?.and_then(Strategy::parse),
        measured,
        clone_seconds: row.try_get("clone_seconds")?,
        clone_bytes: row.maybe_number("clone_bytes")?,
        collations_changed: row.try_get("collations_changed")?,
        clone_error: row.try_get("clone_error")?,
        detail: row.try_get("detail")?,
        input_changes: input_changes(&row)?,
        due: row.try_get("due")?,
    })
}

fn input_changes(row: &PgRow) -> Result<Option<InputChanges>, sqlx::Error> {
    let Some(since) = row.try_get::<Option<&str>, _>("changed_since")? else { return Ok(None) };
    let since = Fingerprint::parse(since).map_err(|_| invalid("changed_since"))?;
    let changes: Vec<String> = row.try_get("input_changes")?;
    let marked = |mark| changes.iter().filter_map(|one| one.strip_prefix(mark)).map(str::to_owned).collect();
    let (changed, added, removed) = (marked('~'), marked('+'), marked('-'));
    Ok(Some(InputChanges { since, changed, added, removed, more: row.number("more_changes")? }))
}

pub(crate) fn database(row: PgRow) -> Result<Database, sqlx::Error> {
    Ok(Database {
        id: DatabaseId(row.try_get("id")?),
        pool: row.pool()?,
        template: TemplateId(row.try_get("template_id")?),
        state: row.parsed("state", DatabaseState::parse)?,
        name: row.database("name")?,
        oid: row.maybe_number("oid")?,
        slot: row.maybe_number("slot")?,
        keep_until: row.maybe_time("keep_until")?,
        keep_expired: row.try_get("keep_expired")?,
        keep_lease: row.try_get("keep_lease")?,
        reason: row.try_get("reason")?,
        attempts: row.number("attempts")?,
        due: row.try_get("due")?,
        last_error: row.try_get("last_error")?,
        created_at: row.time("created_at")?,
        ready_at: row.maybe_time("ready_at")?,
    })
}

pub(crate) fn wanted(row: &PgRow, building: bool) -> Result<TargetTemplate, sqlx::Error> {
    let template = TemplateId(row.try_get("template_id")?);
    Ok(TargetTemplate { pool: row.pool()?, template, fingerprint: row.fingerprint()?, building })
}

/// From `lease_details`.
pub(crate) fn lease(row: PgRow) -> Result<Lease, sqlx::Error> {
    let state = row.parsed("state", LeaseState::parse)?;
    let credentials = match (row.try_get("login")?, row.try_get::<Option<String>, _>("password")?) {
        (Some(user), Some(password)) if state == LeaseState::Live => {
            Some(Credentials { user, password: password.into() })
        }
        _ => None,
    };
    let ttl_seconds = row.number("ttl_seconds")?;
    Ok(Lease {
        id: row.try_get("id")?,
        state,
        pool: row.pool()?,
        fingerprint: row.fingerprint()?,
        template: TemplateId(row.try_get("template_id")?),
        database: row.maybe_number("database_id")?.map(DatabaseId),
        database_name: row.try_get("database_name")?,
        slot: row.number("slot")?,
        credentials,
        run: row.try_get("run")?,
        worker: row.try_get("worker")?,
        alias: row.try_get("alias")?,
        holder: row.try_get("holder")?,
        generation: row.number("generation")?,
        ttl_seconds,
        renewals: row.number("renewals")?,
        reset_to: row.maybe_number("reset_to")?.map(DatabaseId),
        acquired_at: row.time("acquired_at")?,
        expires_at: Timestamp(row.time("renewed_at")?.0.saturating_add_unsigned(ttl_seconds.saturating_mul(1_000_000))),
        ended_at: row.maybe_time("ended_at")?,
        ended_reason: row.try_get("ended_reason")?,
    })
}
