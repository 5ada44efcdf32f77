//! Drops: the database first, then its logins, then its row. The row goes last, so nothing can be left that no row names.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::template::TemplateId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::{end_sessions, sql, stale};
use crate::ddl;
use crate::rights::Rights;
use crate::sqlstate::{self, Meaning};
use crate::world::PgWorld;

pub(super) async fn drop_database(
    world: &PgWorld,
    connection: &mut PgConnection,
    database: DatabaseId,
) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let row = sql(sqlx::query(
        "select d.pool, d.name, d.oid, d.login, d.keep_login from databases d
         where d.id = $1 and d.state in ('retiring', 'blocked') and d.oid is not null
           and (d.slot is null or exists (select from pg_database p where p.oid::int8 = d.oid and p.datconnlimit = -2))
           and not exists (select from leases where (state = 'live' and database_id = d.id) or reset_to = d.id)
         for update",
    )
    .bind(database.0)
    .fetch_optional(&mut *transaction)
    .await)?;
    let Some(row) = row else { return Err(stale("the database is not to be dropped")) };
    let (name, oid) = named(&row)?;
    let mut logins: Vec<String> = vec![sql(row.try_get("login"))?];
    logins.extend(sql(row.try_get::<Option<String>, _>("keep_login"))?);
    let there = is_ours(world, &mut transaction, &name, oid).await?;
    if there {
        close(world, &mut transaction, &name, &logins).await?;
    }
    sql(transaction.commit().await)?;

    if there {
        end_and_drop(connection, &name, oid).await?;
    }
    drop_logins(world, connection, &logins).await?;
    sql(sqlx::query(
        "delete from databases d where d.id = $1 and not exists (select from pg_database p where p.oid::int8 = d.oid)",
    )
    .bind(database.0)
    .execute(connection)
    .await)?;
    Ok(())
}

pub(super) async fn drop_template(
    world: &PgWorld,
    connection: &mut PgConnection,
    template: TemplateId,
) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let row = sql(sqlx::query(
        "select t.pool, t.name, coalesce(t.oid, p.oid::int8) as oid from templates t
         left join pg_database p on p.datname = t.name
         where t.id = $1 and t.state in ('retiring', 'failed')
           and not exists (select from databases d where d.template_id = t.id and d.oid is null) for update of t",
    )
    .bind(template.0)
    .fetch_optional(&mut *transaction)
    .await)?;
    let Some(row) = row else { return Err(stale("the template is not to be dropped")) };
    let login = RoleName::login(template.0).to_string();
    let found = if sql(row.try_get::<Option<i64>, _>("oid"))?.is_some() { Some(named(&row)?) } else { None };
    let mut there = None;
    if let Some((name, oid)) = found
        && is_ours(world, &mut transaction, &name, oid).await?
    {
        close(world, &mut transaction, &name, std::slice::from_ref(&login)).await?;
        there = Some((name, oid));
    }
    sql(transaction.commit().await)?;

    if let Some((name, oid)) = there {
        end_and_drop(connection, &name, oid).await?;
    }
    drop_logins(world, connection, &[login]).await?;
    // A failed one is shown for an hour; a retired one, and one of a pool that goes, has nothing more to say. While a kept
    // database refers to it the row stays, but the name is free for the next build of that fingerprint.
    let gone = sql(sqlx::query(
        "delete from templates t using pools p where t.id = $1 and p.name = t.pool
           and (t.state = 'retiring' or p.dropping or t.last_used_at < now() - interval '1 hour')
           and not exists (select from databases d where d.template_id = t.id)",
    )
    .bind(template.0)
    .execute(&mut *connection)
    .await)?;
    if gone.rows_affected() == 0 {
        sql(sqlx::query("update templates set oid = null, name = pool || '_old_' || id where id = $1 and state in ('retiring', 'failed')")
            .bind(template.0)
            .execute(connection)
            .await)?;
    }
    Ok(())
}

fn named(row: &sqlx::postgres::PgRow) -> Result<(DatabaseName, i64), StepError> {
    let pool: String = sql(row.try_get("pool"))?;
    let name: String = sql(row.try_get("name"))?;
    let pool = PoolName::parse(&pool).map_err(|e| StepError::Failed(e.to_string()))?;
    let name = DatabaseName::recognise(&pool, &name)
        .ok_or_else(|| StepError::Failed("the catalog holds an impossible name".to_owned()))?;
    Ok((name, sql(row.try_get("oid"))?))
}

/// Our row, our owner role *and* our name, with the oid that the row remembers; nothing else is ever dropped.
async fn is_ours(
    world: &PgWorld,
    connection: &mut PgConnection,
    name: &DatabaseName,
    oid: i64,
) -> Result<bool, StepError> {
    sql(sqlx::query_scalar(
        "select exists (select from pg_database p join pg_roles r on r.oid = p.datdba
                        where p.oid::int8 = $1 and p.datname = $2 and r.rolname = $3)",
    )
    .bind(oid)
    .bind(name.as_str())
    .bind(world.database_owner().as_str())
    .fetch_one(connection)
    .await)
}

/// Closes the database and its logins. `alter database` on one whose drop was interrupted is a FATAL error, so that is asked first.
async fn close(
    world: &PgWorld,
    connection: &mut PgConnection,
    name: &DatabaseName,
    logins: &[String],
) -> Result<(), StepError> {
    let invalid: bool = sql(sqlx::query_scalar("select datconnlimit = -2 from pg_database where datname = $1")
        .bind(name.as_str())
        .fetch_one(&mut *connection)
        .await)?;
    if invalid {
        return Ok(());
    }
    // `drop database` refuses what is still marked as a template.
    let mut closing = ddl::is_template(name, false).then(ddl::allow_connections(name, false));
    if world.connections.facts.rights != Rights::DatabasesOnly {
        for login in existing(connection, logins).await? {
            closing = closing.then(ddl::close_login(&login));
        }
    }
    sql(closing.run(connection).await)
}

/// No FORCE, no time-out: sessions are ended first, and an interrupted drop leaves a database that only a drop can help.
async fn end_and_drop(connection: &mut PgConnection, name: &DatabaseName, oid: i64) -> Result<(), StepError> {
    if !end_sessions(connection, &[oid]).await?.is_empty() {
        return Err(StepError::Failed("a session on it did not end within 2 s of being told to".to_owned()));
    }
    match ddl::drop_database(name).run(connection).await {
        Err(error) if sqlstate::meaning(&error) != Meaning::Missing => Err(super::Sql(error).into()),
        _ => Ok(()),
    }
}

/// Those of the names that exist as roles of ours.
pub(super) async fn existing(connection: &mut PgConnection, logins: &[String]) -> Result<Vec<RoleName>, StepError> {
    let ours: Vec<&String> = logins.iter().filter(|login| RoleName::is_login_of_ours(login)).collect();
    let found: Vec<String> = sql(sqlx::query_scalar("select rolname::text from pg_roles where rolname = any($1)")
        .bind(ours)
        .fetch_all(connection)
        .await)?;
    found.iter().map(|name| RoleName::parse("login", name).map_err(|e| StepError::Failed(e.to_string()))).collect()
}

async fn drop_logins(world: &PgWorld, connection: &mut PgConnection, logins: &[String]) -> Result<(), StepError> {
    if world.connections.facts.rights == Rights::DatabasesOnly {
        return Ok(());
    }
    for login in existing(connection, logins).await? {
        sql(ddl::drop_role(&login).run(connection).await)?;
    }
    Ok(())
}
