//! State transitions: steps that change rows only, each under the condition of the state it starts from.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::lease::{End, LeaseId};
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::plan::{ForgetReason, RetireReason, TemplateRetireReason};
use pgdibs_core::template::TemplateId;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::drop::existing;
use super::roles::drop_unused_roles;
use crate::ddl;
use crate::error::{Result, stale};
use crate::requests::leases;
use crate::sqlstate;
use pgdibs_failpoint::{Failpoint, reach};

/// Expires or revokes a lease. A lease that was renewed since the plan does not expire; the start of a reset is a renewal.
pub(super) async fn end_lease(
    connection: &mut PgConnection,
    lease: LeaseId,
    end: End,
    renewals: u64,
    reason: &str,
) -> Result<()> {
    let renewals = (end == End::Expired).then_some(renewals);
    let ended = leases::end_all(connection, &[lease], end, renewals, reason).await?;
    reach(Failpoint::ExpireCommitted).await;
    if ended > 0 { Ok(()) } else { Err(stale("the lease has ended or was renewed")) }
}

/// Locks a database's row, in a statement of its own: a reset reserves a spare under that lock without changing its row, so only a statement
/// that begins after the lock sees the reservation.
async fn lock(transaction: &mut PgConnection, database: DatabaseId) -> Result<(), sqlx::Error> {
    sqlx::query("select from databases where id = $1 for update").bind(database.0).execute(transaction).await?;
    Ok(())
}

pub(super) async fn retire(connection: &mut PgConnection, database: DatabaseId, reason: RetireReason) -> Result<()> {
    let mut transaction = connection.begin().await?;
    lock(&mut transaction, database).await?;
    // A damaged database retires also when a reset has reserved it, and the reset reserves another.
    let retired = sqlx::query(
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
    .await?;
    transaction.commit().await?;
    reach(Failpoint::RetireCommitted).await;
    retired.map(|_| ()).ok_or_else(|| stale("the database is in use now"))
}

/// Inserts the rows, before the databases: after a crash, no row would name a database that was created without one.
pub(super) async fn new_databases(connection: &mut PgConnection, template: TemplateId, count: u32) -> Result<()> {
    let numbered: Vec<(String, i64)> = sqlx::query_as(
        "select t.pool, nextval('numbers') from templates t cross join generate_series(1, $2::int) where t.id = $1",
    )
    .bind(template.0)
    .bind(i32::try_from(count).unwrap_or(i32::MAX))
    .fetch_all(&mut *connection)
    .await?;
    let (mut numbers, mut names, mut logins) = (Vec::new(), Vec::new(), Vec::new());
    for (pool, number) in numbered {
        let pool = PoolName::parse(&pool)?;
        numbers.push(number);
        names.push(DatabaseName::spare(&pool, number).to_string());
        logins.push(RoleName::login(number).to_string());
    }
    let inserted = sqlx::query(
        "with template as (
             select t.id, t.pool from templates t join pools p on p.name = t.pool
             where t.id = $1 and t.state = 'ready' and not p.dropping for key share of t)
         insert into databases (id, pool, template_id, state, name, login)
         select n.id, t.pool, t.id, 'creating', n.name, n.login
         from template t cross join unnest($2::int8[], $3::text[], $4::text[]) as n (id, name, login)",
    )
    .bind(template.0)
    .bind(&numbers)
    .bind(&names)
    .bind(&logins)
    .execute(connection)
    .await?;
    if inserted.rows_affected() == 0 {
        return Err(stale("the template is not ready any more"));
    }
    reach(Failpoint::CloneRowCommitted).await;
    Ok(())
}

/// Retires a database whose creator died after `create database`: a complete copy, but without its login and grants.
pub(super) async fn adopt(connection: &mut PgConnection, database: DatabaseId, oid: u32) -> Result<()> {
    let done = sqlx::query(
        "update databases d set oid = $2, state = 'retiring', reason = 'the daemon that cloned it died before it was done'
         from server_databases s
         where d.id = $1 and d.oid is null and d.state in ('creating', 'blocked', 'retiring')
           and s.oid::int8 = $2 and s.name = d.name and s.ours",
    )
    .bind(database.0)
    .bind(i64::from(oid))
    .execute(connection)
    .await?;
    reach(Failpoint::AdoptRecorded).await;
    if done.rows_affected() == 1 { Ok(()) } else { Err(stale("the half-made database was dropped")) }
}

/// Deletes the row of a database that does not exist under its name, and closes its logins: the database may exist under another name. The
/// logins are dropped now if nothing refers to them, or else by the next garbage collection.
pub(super) async fn forget(connection: &mut PgConnection, database: DatabaseId, reason: ForgetReason) -> Result<()> {
    let mut transaction = connection.begin().await?;
    // A reset that has reserved it reserves another. If the database exists after all, all of this is rolled back.
    lock(&mut transaction, database).await?;
    sqlx::query("update leases set reset_to = null where reset_to = $1")
        .bind(database.0)
        .execute(&mut *transaction)
        .await?;
    let deleted: Option<(String, Vec<String>)> = sqlx::query_as(
        "delete from databases d
         where d.id = $1 and not exists (select from leases where state = 'live' and database_id = d.id)
           and not exists (select from server_databases s where s.name = d.name and (s.oid::int8 = d.oid or d.oid is null and s.ours))
         returning d.name, array_remove(array[d.login, d.keep_login], null)",
    )
    .bind(database.0)
    .fetch_optional(&mut *transaction)
    .await?;
    let (name, logins) = deleted.ok_or_else(|| stale("the database exists after all"))?;
    let logins = existing(&mut transaction, &logins).await?;
    for login in &logins {
        ddl::bound_statements().then(ddl::close_login(login)).run(&mut transaction).await?;
    }
    transaction.commit().await?;
    reach(Failpoint::ForgetClosed).await;
    match reason {
        ForgetReason::NotNeeded => tracing::debug!(database = name, "cancelled a clone: {reason}"),
        ForgetReason::Vanished | ForgetReason::RenamedExternally => {
            tracing::info!(database = name, "removed database from the catalog: {reason}");
        }
    }
    for login in &logins {
        if let Err(error) = ddl::bound_statements().then(ddl::drop_role(login)).run(connection).await {
            tracing::debug!(%login, "cannot drop login of missing database yet: {}", sqlstate::sentence(&error));
        }
    }
    Ok(())
}

pub(super) async fn lose_build(connection: &mut PgConnection, template: TemplateId, reason: &str) -> Result<()> {
    // A session on the build's database is a heartbeat: the builder may be in the middle of a long migration. The statement that fails the
    // build checks for one itself.
    let alive: Option<bool> = sqlx::query_scalar(
        "update templates t set
             build_heard_at = case when s.alive then now() else build_heard_at end,
             state = case when s.alive then state else 'failed' end,
             detail = case when s.alive then detail else $2 end,
             last_used_at = now()
         from (select exists (select from pg_stat_activity a where b.oid = a.datid::int8 and a.usesysid is not null)
                      and b.built_by is null and not p.dropping as alive, p.dropping
               from templates b join pools p on p.name = b.pool where b.id = $1) s
         where t.id = $1 and t.state = 'building' and (t.seal_requested_at is null or s.dropping)
         returning s.alive",
    )
    .bind(template.0)
    .bind(reason)
    .fetch_optional(connection)
    .await?;
    reach(Failpoint::BuildFailed).await;
    match alive {
        Some(false) => Ok(()),
        Some(true) => Err(stale("the builder is still connected")),
        None => Err(stale("the template is not building any more")),
    }
}

pub(super) async fn retire_template(
    connection: &mut PgConnection,
    template: TemplateId,
    reason: TemplateRetireReason,
) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let locked = sqlx::query("select from templates where id = $1 and state = 'ready' for update")
        .bind(template.0)
        .fetch_optional(&mut *transaction)
        .await?;
    let used: bool = sqlx::query_scalar(
        "select exists (select from leases where template_id = $1 and state = 'live')
             or exists (select from tickets where template_id = $1 and created_at > now() - interval '700 s')",
    )
    .bind(template.0)
    .fetch_one(&mut *transaction)
    .await?;
    // A template whose database is missing, or sorts otherwise than the server, retires even when it is used.
    let unused = [TemplateRetireReason::Outnumbered, TemplateRetireReason::TooOld, TemplateRetireReason::Superseded];
    let stays = used && unused.contains(&reason);
    if locked.is_none() || stays {
        return Err(stale("the template is in use now"));
    }
    // A failed template's row is shown for an hour, so that callers learn why there is none.
    let failed = reason == TemplateRetireReason::CollationsChanged;
    sqlx::query(
        "update templates set state = case when $3 then 'failed' else 'retiring' end, detail = $2,
                last_used_at = case when $3 then now() else last_used_at end where id = $1",
    )
    .bind(template.0)
    .bind(reason.to_string())
    .bind(failed)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    reach(Failpoint::TemplateRetired).await;
    Ok(())
}

/// Deletes the row of an empty pool, and drops the roles that were created for it.
pub(super) async fn forget_pool(connection: &mut PgConnection, pool: &PoolName) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let done = sqlx::query(
        "delete from pools p where name = $1 and dropping
           and not exists (select from databases where pool = p.name)
           and not exists (select from templates where pool = p.name)",
    )
    .bind(pool.as_str())
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() != 1 {
        return Err(stale("the pool is in use again"));
    }
    drop_unused_roles(&mut transaction).await?;
    Ok(transaction.commit().await?)
}
