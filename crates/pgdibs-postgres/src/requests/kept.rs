//! Kept databases: the promise to keep one as it is, and its early end.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Credentials, LeaseId};
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::request::Kept;
use sqlx::Row as _;

use super::leases;
use crate::context::{PgBackend, answer};
use crate::failpoint::{Point, reach};
use crate::rows;
use crate::scram::new_password;

/// Writes the promise down; the login is made when the database leaves its slot. A repeated keep prolongs the first.
pub(crate) async fn keep(backend: &PgBackend, id: LeaseId, seconds: u64, reason: &str) -> Result<Kept, Error> {
    let number: i64 =
        answer(sqlx::query_scalar("select nextval('numbers')").fetch_one(&backend.connections.catalog).await)?;
    let login = RoleName::login(number);
    let row = answer(
        sqlx::query(concat!(
            "update databases d set keep_until = now() + $2 * interval '1 s', kept_at = now(), keep_reason = $3,
                    keep_login = coalesce(d.keep_login, $4), keep_password = coalesce(d.keep_password, ",
            new_password!(),
            ")
             from leases l where l.id = $1 and l.state = 'live' and d.id = l.database_id and d.state = 'leased'
             returning d.id, d.pool, d.keep_login, d.keep_password,
                       (extract(epoch from d.keep_until) * 1000000)::int8 as keep_until"
        ))
        .bind(id)
        .bind(i64::try_from(seconds).unwrap_or(i64::MAX))
        .bind(reason)
        .bind(login.as_str())
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    let Some(row) = row else { return Err(leases::over(backend, id).await) };
    reach(Point::KeepRecorded).await;
    let pool: String = answer(row.try_get("pool"))?;
    let number: i64 = answer(row.try_get("id"))?;
    Ok(Kept {
        database: DatabaseId(number),
        name: DatabaseName::kept(&PoolName::parse(&pool)?, number),
        credentials: Credentials {
            user: answer(row.try_get("keep_login"))?,
            password: answer(row.try_get::<String, _>("keep_password"))?.into(),
        },
        until: answer(rows::time(&row, "keep_until"))?,
    })
}

pub(crate) async fn give_up(backend: &PgBackend, database: &str) -> Result<(), Error> {
    let done = answer(
        sqlx::query("update databases set keep_until = now() where name = $1 and state = 'kept'")
            .bind(database)
            .execute(&backend.connections.catalog)
            .await,
    )?;
    if done.rows_affected() > 0 {
        return Ok(());
    }
    Err(Error::DatabaseNotFound(format!(
        "there is no kept database \"{}\"; GET /v1/databases lists what there is, and only a kept one can be dropped by hand",
        pgdibs_core::name::shown(database)
    )))
}
