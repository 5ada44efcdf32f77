//! Kept databases: a keep, and its early end.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Credentials, LeaseId};
use pgdibs_core::name::{DatabaseName, RoleName, shown};
use pgdibs_core::request::Kept;
use sqlx::Row as _;

use super::{leases, next_number};
use crate::context::PgBackend;
use crate::error::Result;
use crate::rows::Columns as _;
use pgdibs_failpoint::{Failpoint, reach};

/// Records the promise; the login is created when the database leaves its slot. A repeated keep prolongs the first.
pub(crate) async fn keep(backend: &PgBackend, id: LeaseId, seconds: u64, reason: &str) -> Result<Kept> {
    let login = RoleName::login(next_number(backend).await?);
    let row = sqlx::query(
        "update databases d set keep_until = now() + $2 * interval '1 s', kept_at = now(), keep_reason = $3, keep_lease = $1,
                keep_login = coalesce(d.keep_login, $4), keep_password = coalesce(d.keep_password, new_password())
         from leases l where l.id = $1 and l.state = 'live' and d.id = l.database_id and d.state = 'leased'
         returning d.id, d.pool, d.keep_login, d.keep_password, d.keep_until",
    )
    .bind(id)
    .bind(i64::try_from(seconds).unwrap_or(i64::MAX))
    .bind(reason)
    .bind(login.as_str())
    .fetch_optional(&backend.catalog())
    .await?;
    let Some(row) = row else { return Err(leases::over(backend, id).await) };
    reach(Failpoint::KeepRecorded).await;
    let number = row.try_get("id")?;
    Ok(Kept {
        database: DatabaseId(number),
        name: DatabaseName::kept(&row.pool()?, number),
        credentials: Credentials {
            user: row.try_get("keep_login")?,
            password: row.try_get::<String, _>("keep_password")?.into(),
        },
        until: row.time("keep_until")?,
    })
}

pub(crate) async fn give_up(backend: &PgBackend, database: &str) -> Result<()> {
    let done = sqlx::query("update databases set keep_until = now() where name = $1 and state = 'kept'")
        .bind(database)
        .execute(&backend.catalog())
        .await?;
    if done.rows_affected() > 0 {
        return Ok(());
    }
    Err(Error::DatabaseNotFound(format!(
        "there is no kept database \"{}\"; GET /v1/databases lists the databases, and only a kept one can be dropped by request",
        shown(database)
    ))
    .into())
}
