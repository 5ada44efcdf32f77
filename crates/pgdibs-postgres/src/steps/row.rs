//! Rows of databases that enter or leave a slot, for fences and swaps.

use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::login::Login;
use crate::rows::Columns as _;

/// See `sql/database_rows.sql`.
pub(super) struct DatabaseRow {
    pub(super) id: i64,
    pub(super) pool: PoolName,
    pub(super) state: String,
    pub(super) name: DatabaseName,
    pub(super) oid: i64,
    pub(super) slot: Option<i32>,
    pub(super) login: Login,
    pub(super) has_login: bool,
    pub(super) keep: bool,
    pub(super) keep_login: Option<RoleName>,
    pub(super) keep_password: Option<String>,
    pub(super) resetting: bool,
}

impl DatabaseRow {
    fn read(row: PgRow) -> Result<Self, sqlx::Error> {
        let keep_login: Option<String> = row.try_get("keep_login")?;
        Ok(Self {
            id: row.try_get("id")?,
            pool: row.pool()?,
            state: row.try_get("state")?,
            name: row.database("name")?,
            oid: row.number("oid")?,
            slot: row.try_get("slot")?,
            login: Login {
                name: row.role("login")?,
                verifier: row.try_get("verifier")?,
                acts_as: row.role("owner")?,
                settings: row.login_settings()?,
            },
            has_login: row.try_get("has_login")?,
            keep: row.try_get("keep")?,
            keep_login: keep_login.map(|_| row.role("keep_login")).transpose()?,
            keep_password: row.try_get("keep_password")?,
            resetting: row.try_get("resetting")?,
        })
    }

    /// Whether its lease has ended, and it has yet to leave its slot.
    pub(super) fn is_leaving(&self) -> bool {
        self.slot.is_some() && matches!(self.state.as_str(), "retiring" | "kept" | "blocked")
    }
}

/// Reads rows without locks, before the transaction that locks them.
pub(super) async fn read(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<DatabaseRow>, sqlx::Error> {
    let statement = include_str!("../../sql/database_rows.sql");
    sqlx::query(statement).bind(ids).try_map(DatabaseRow::read).fetch_all(connection).await
}

pub(super) async fn read_one(connection: &mut PgConnection, id: i64) -> Result<Option<DatabaseRow>, sqlx::Error> {
    Ok(read(connection, &[id]).await?.pop())
}

/// Reads rows, and locks them until the end of the transaction.
pub(super) async fn lock(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<DatabaseRow>, sqlx::Error> {
    let statement = concat!(include_str!("../../sql/database_rows.sql"), "for update of d");
    sqlx::query(statement).bind(ids).try_map(DatabaseRow::read).fetch_all(connection).await
}
