//! Rows of databases on their way in or out of a slot, as fences and swaps need them.

use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::pool::LoginRights;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::outcome::{sql, stale};

/// What a swap needs to know of a database.
pub(super) struct Swapped {
    pub(super) id: i64,
    pub(super) pool: PoolName,
    pub(super) state: String,
    pub(super) name: DatabaseName,
    pub(super) oid: i64,
    pub(super) slot: Option<i32>,
    pub(super) login: RoleName,
    /// Whether that role exists: one that was dropped by hand is as good as closed.
    pub(super) has_login: bool,
    pub(super) keep: bool,
    pub(super) keep_login: Option<RoleName>,
    pub(super) keep_password: Option<String>,
    pub(super) acts_as: RoleName,
    /// What its login may do beyond the database.
    pub(super) may: LoginRights,
    /// The verifier that its login was made with, if that was noted.
    pub(super) verifier: Option<String>,
    /// Whether its lease reserved a spare for a reset.
    pub(super) resetting: bool,
}

macro_rules! swapped_columns {
    () => {
        "d.id, d.pool, d.state, d.name, d.oid, d.slot, d.login, exists (select from pg_roles r where r.rolname = d.login) as has_login, \
         coalesce(d.keep_until > now(), false) as keep, \
         d.keep_login, d.keep_password, p.owner, p.login as may, d.verifier, \
         exists (select from leases l where l.database_id = d.id and l.reset_to is not null) as resetting"
    };
}

fn swapped(row: &PgRow) -> Result<Swapped, StepError> {
    let text = |column: &str| sql(row.try_get::<String, _>(column));
    let role =
        |field: &'static str, text: &str| RoleName::parse(field, text).map_err(|e| StepError::Failed(e.to_string()));
    let pool = PoolName::parse(&text("pool")?).map_err(|e| StepError::Failed(e.to_string()))?;
    let name = DatabaseName::recognise(&pool, &text("name")?)
        .ok_or_else(|| StepError::Failed("the catalog holds an impossible name".to_owned()))?;
    let keep_login: Option<String> = sql(row.try_get("keep_login"))?;
    Ok(Swapped {
        id: sql(row.try_get("id"))?,
        pool,
        state: text("state")?,
        name,
        oid: sql(row.try_get::<Option<i64>, _>("oid"))?.ok_or_else(|| stale("the database was never created"))?,
        slot: sql(row.try_get("slot"))?,
        login: role("login", &text("login")?)?,
        has_login: sql(row.try_get("has_login"))?,
        keep: sql(row.try_get("keep"))?,
        keep_login: keep_login.as_deref().map(|login| role("keep_login", login)).transpose()?,
        keep_password: sql(row.try_get("keep_password"))?,
        acts_as: role("owner", &text("owner")?)?,
        may: LoginRights::parse(&text("may")?).unwrap_or_default(),
        verifier: sql(row.try_get("verifier"))?,
        resetting: sql(row.try_get("resetting"))?,
    })
}

/// Without a lock, for what comes before the transaction that takes it.
pub(super) async fn take_snapshot(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Swapped>, StepError> {
    let rows = sql(sqlx::query(concat!(
        "select ",
        swapped_columns!(),
        " from databases d join pools p on p.name = d.pool where d.id = any($1) order by d.id"
    ))
    .bind(ids)
    .fetch_all(connection)
    .await)?;
    rows.iter().map(swapped).collect()
}

/// Locks the rows until the end of the transaction.
pub(super) async fn lock(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Swapped>, StepError> {
    let rows = sql(sqlx::query(concat!(
        "select ",
        swapped_columns!(),
        " from databases d join pools p on p.name = d.pool where d.id = any($1) order by d.id for update of d"
    ))
    .bind(ids)
    .fetch_all(connection)
    .await)?;
    rows.iter().map(swapped).collect()
}

pub(super) fn is_leaving(database: &Swapped) -> bool {
    database.slot.is_some() && matches!(database.state.as_str(), "retiring" | "kept" | "blocked")
}

pub(super) const PASSED_ON: &str = "the spare was reserved, or a name passed to another database meanwhile";

/// After DDL by name: each name must carry the oid that we meant, or everything is rolled back.
pub(super) async fn check(transaction: &mut PgConnection, expected: &[(i64, &DatabaseName)]) -> Result<(), StepError> {
    let (oids, names): (Vec<i64>, Vec<&str>) = expected.iter().map(|(oid, name)| (*oid, name.as_str())).unzip();
    let right: i64 = sql(sqlx::query_scalar(
        "select count(*) from unnest($1::int8[], $2::text[]) as expected (oid, name)
         join pg_database p on p.datname = expected.name::name and p.oid::int8 = expected.oid",
    )
    .bind(oids)
    .bind(names)
    .fetch_one(transaction)
    .await)?;
    if usize::try_from(right) == Ok(expected.len()) { Ok(()) } else { Err(stale(PASSED_ON)) }
}
