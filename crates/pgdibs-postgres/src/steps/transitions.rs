//! Marks: steps that change rows only, each guarded by the state it starts from.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::lease::{End, LeaseId};
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::plan::{RetireReason, TemplateRetireReason};
use pgdibs_core::template::TemplateId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::clone::drop_unused_roles;
use super::drop::existing;
use super::outcome::{sql, stale};
use crate::ddl;
use crate::failpoint::{Point, reach};
use crate::scram::new_password;
use crate::sqlstate;

/// Expires or revokes a lease. One that was renewed since the plan does not expire; a reset that was begun is a renewal.
pub(super) async fn end_lease(
    connection: &mut PgConnection,
    lease: LeaseId,
    end: End,
    renewals: u64,
    reason: &str,
) -> Result<(), StepError> {
    let ended = sql(sqlx::query(
        "with ended as (
             update leases set state = $2, ended_at = now(), ended_reason = $3, reset_to = null
             where id = $1 and state = 'live' and ($2 <> 'expired' or renewals = $4) returning database_id),
         used as (
             update databases d set state = case when d.keep_until > now() then 'kept' else 'retiring' end,
                 reason = 'its lease was ' || $2
             from ended where d.id = ended.database_id and d.state = 'leased')
         select from ended",
    )
    .bind(lease)
    .bind(end.state().as_str())
    .bind(reason)
    .bind(i64::try_from(renewals).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await)?;
    reach(Point::ExpireCommitted).await;
    ended.map(|_| ()).ok_or_else(|| stale("the lease is over or was renewed"))
}

pub(super) async fn retire(
    connection: &mut PgConnection,
    database: DatabaseId,
    reason: RetireReason,
) -> Result<(), StepError> {
    // The lock comes in a statement of its own: a reset reserves a spare under that lock without changing its row, so only a
    // statement that begins afterwards sees the reservation.
    let mut transaction = sql(connection.begin().await)?;
    sql(sqlx::query("select from databases where id = $1 for update")
        .bind(database.0)
        .execute(&mut *transaction)
        .await)?;
    // A damaged database is of no use to anybody, so it goes from wherever it is, and a reset has to reserve another.
    let done = sql(sqlx::query(
        "with retired as (
             update databases d set state = 'retiring', reason = $2, attempts = 0, retry_at = null
             where id = $1 and state in ('spare', 'ready', 'kept')
               and ($3 or not exists (select from leases where reset_to = d.id)) returning d.id),
         freed as (update leases set reset_to = null from retired where reset_to = retired.id)
         select from retired",
    )
    .bind(database.0)
    .bind(reason.to_string())
    .bind(reason.is_damage())
    .fetch_optional(&mut *transaction)
    .await)?;
    sql(transaction.commit().await)?;
    reach(Point::RetireCommitted).await;
    done.map(|_| ()).ok_or_else(|| stale("the database is in use by now"))
}

/// Rows first: what is created without a row would belong to nobody if we died.
pub(super) async fn new_databases(
    connection: &mut PgConnection,
    template: TemplateId,
    count: u32,
) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let pool: Option<String> = sql(sqlx::query_scalar(
        "select t.pool from templates t join pools p on p.name = t.pool
         where t.id = $1 and t.state = 'ready' and not p.dropping for key share of t",
    )
    .bind(template.0)
    .fetch_optional(&mut *transaction)
    .await)?;
    let Some(pool) = pool else { return Err(stale("the template is not ready any more")) };
    let pool = PoolName::parse(&pool).map_err(|e| StepError::Failed(e.to_string()))?;
    let numbers: Vec<i64> = sql(sqlx::query_scalar("select nextval('numbers') from generate_series(1, $1::int)")
        .bind(i32::try_from(count).unwrap_or(i32::MAX))
        .fetch_all(&mut *transaction)
        .await)?;
    let names: Vec<String> = numbers.iter().map(|&n| DatabaseName::spare(&pool, n).as_str().to_owned()).collect();
    let login = |&n: &i64| RoleName::login(n).to_string();
    let logins: Vec<String> = numbers.iter().map(login).collect();
    sql(sqlx::query(concat!(
        "insert into databases (id, pool, template_id, state, name, login, password)
         select n.id, $1, $2, 'creating', n.name, n.login, ",
        new_password!(),
        "
         from unnest($3::int8[], $4::text[], $5::text[]) as n (id, name, login)"
    ))
    .bind(pool.as_str())
    .bind(template.0)
    .bind(&numbers)
    .bind(&names)
    .bind(&logins)
    .execute(&mut *transaction)
    .await)?;
    reach(Point::CloneRowWritten).await;
    sql(transaction.commit().await)?;
    reach(Point::CloneRowCommitted).await;
    Ok(())
}

/// A database whose creator died after `create database`: complete as a copy, but without its login and grants. It is dropped.
pub(super) async fn adopt(connection: &mut PgConnection, database: DatabaseId, oid: u32) -> Result<(), StepError> {
    let done = sql(sqlx::query(
        "update databases d set oid = $2, state = 'retiring', reason = 'the daemon that cloned it died before it was done'
         from pg_database p join pg_roles r on r.oid = p.datdba
         where d.id = $1 and d.oid is null and d.state in ('creating', 'blocked', 'retiring')
           and p.oid::int8 = $2 and p.datname = d.name and r.rolname = $3",
    )
    .bind(database.0)
    .bind(i64::from(oid))
    .bind(RoleName::database_owner().as_str())
    .execute(connection)
    .await)?;
    reach(Point::AdoptRecorded).await;
    if done.rows_affected() == 1 { Ok(()) } else { Err(stale("the half-made database is gone")) }
}

/// Deletes a row whose database is gone under that name, and shuts its logins: the database may live on under another name.
/// They are dropped now if nothing refers to them, else by a later sweep.
pub(super) async fn forget(connection: &mut PgConnection, database: DatabaseId, reason: &str) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    // As in `retire`: locked first, so that no reset reserves it in between. A reset that has, has to reserve another; and when the
    // database proves to be there after all, this is rolled back with the rest.
    sql(sqlx::query("select from databases where id = $1 for update")
        .bind(database.0)
        .execute(&mut *transaction)
        .await)?;
    sql(sqlx::query("update leases set reset_to = null where reset_to = $1")
        .bind(database.0)
        .execute(&mut *transaction)
        .await)?;
    let row = sql(sqlx::query(
        "delete from databases d
         where d.id = $1 and not exists (select from leases where state = 'live' and database_id = d.id)
           and not exists (select from pg_database p where p.oid::int8 = d.oid and p.datname = d.name)
           and not (d.oid is null and exists (
               select from pg_database p join pg_roles r on r.oid = p.datdba where p.datname = d.name and r.rolname = $2))
         returning d.name, array_remove(array[d.login, d.keep_login], null) as logins",
    )
    .bind(database.0)
    .bind(RoleName::database_owner().as_str())
    .fetch_optional(&mut *transaction)
    .await)?;
    let Some(row) = row else { return Err(stale("the database is there after all")) };
    let name: String = sql(row.try_get("name"))?;
    let logins: Vec<String> = sql(row.try_get("logins"))?;
    let logins = existing(&mut transaction, &logins).await?;
    for login in &logins {
        sql(ddl::close_login(login).run(&mut transaction).await)?;
    }
    sql(transaction.commit().await)?;
    reach(Point::ForgetClosed).await;
    tracing::info!(database = name, reason, "forgot a database");
    for login in &logins {
        if let Err(error) = ddl::drop_role(login).run(connection).await {
            tracing::debug!(%login, error = %sqlstate::sentence(&error), "the login of a forgotten database stays until the sweep");
        }
    }
    Ok(())
}

pub(super) async fn lose_build(
    connection: &mut PgConnection,
    template: TemplateId,
    reason: &str,
) -> Result<(), StepError> {
    // A session on the build's database is a sign of life; it is looked for here, in the same statement that would take the
    // build away, because the builder may be in the middle of a long migration.
    let row = sql(sqlx::query(
        "update templates t set
             build_heard_at = case when s.alive then now() else build_heard_at end,
             state = case when s.alive then state else 'failed' end,
             detail = case when s.alive then detail else $2 end,
             last_used_at = now()
         from (select exists (select from pg_stat_activity a join templates b on b.oid = a.datid::int8
                              where b.id = $1 and a.usesysid is not null)
                      and (select built_by is null from templates where id = $1)
                      and not (select dropping from pools p join templates b on b.pool = p.name where b.id = $1) as alive) s
         where t.id = $1 and t.state = 'building'
           and (t.seal_requested_at is null or exists (select from pools p where p.name = t.pool and p.dropping))
         returning s.alive",
    )
    .bind(template.0)
    .bind(reason)
    .fetch_optional(connection)
    .await)?;
    reach(Point::BuildFailed).await;
    match row {
        Some(row) if sql(row.try_get::<bool, _>("alive"))? => Err(stale("the builder is still connected")),
        Some(_) => Ok(()),
        None => Err(stale("the template is not building any more")),
    }
}

pub(super) async fn retire_template(
    connection: &mut PgConnection,
    template: TemplateId,
    reason: TemplateRetireReason,
) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let locked = sql(sqlx::query("select from templates where id = $1 and state = 'ready' for update")
        .bind(template.0)
        .fetch_optional(&mut *transaction)
        .await)?;
    let leased: bool = sql(sqlx::query_scalar(
        "select exists (select from leases where template_id = $1 and state = 'live')
             or exists (select from tickets where template_id = $1 and created_at > now() - interval '700 s')",
    )
    .bind(template.0)
    .fetch_one(&mut *transaction)
    .await)?;
    // What vanished serves nobody any more, however much it is wanted.
    let wanted = leased && matches!(reason, TemplateRetireReason::Outnumbered | TemplateRetireReason::TooOld);
    if locked.is_none() || wanted {
        return Err(stale("the template is in use by now"));
    }
    sql(sqlx::query("update templates set state = 'retiring', detail = $2 where id = $1")
        .bind(template.0)
        .bind(reason.to_string())
        .execute(&mut *transaction)
        .await)?;
    sql(transaction.commit().await)?;
    reach(Point::TemplateRetired).await;
    Ok(())
}

/// Deletes the row of a pool of which nothing is left, and drops the roles that were made for it.
pub(super) async fn forget_pool(connection: &mut PgConnection, pool: &PoolName) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let done = sql(sqlx::query(
        "delete from pools p where name = $1 and dropping
           and not exists (select from databases where pool = p.name)
           and not exists (select from templates where pool = p.name)",
    )
    .bind(pool.as_str())
    .execute(&mut *transaction)
    .await)?;
    if done.rows_affected() != 1 {
        return Err(stale("the pool is in use again"));
    }
    sql(drop_unused_roles(&mut transaction).await)?;
    sql(transaction.commit().await)
}
