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
    let ours = find_ours(world, &mut transaction, &name, oid, &logins).await?;
    if let Some(ours) = &ours {
        close(world, &mut transaction, &name, ours).await?;
    }
    sql(transaction.commit().await)?;

    if ours.is_some() {
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
        && let Some(ours) = find_ours(world, &mut transaction, &name, oid, std::slice::from_ref(&login)).await?
    {
        close(world, &mut transaction, &name, &ours).await?;
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

/// A database of ours on the server.
struct Ours {
    /// Its drop was interrupted.
    invalid: bool,
    /// Those of its logins that exist.
    logins: Vec<RoleName>,
}

/// Our row, our owner role *and* our name, with the oid that the row remembers; nothing else is ever dropped.
async fn find_ours(
    world: &PgWorld,
    connection: &mut PgConnection,
    name: &DatabaseName,
    oid: i64,
    logins: &[String],
) -> Result<Option<Ours>, StepError> {
    let row = sql(sqlx::query(
        "select p.datconnlimit = -2 as invalid, array(select rolname::text from pg_roles where rolname = any($4::name[])) as logins
         from pg_database p join pg_roles r on r.oid = p.datdba
         where p.oid::int8 = $1 and p.datname = $2::name and r.rolname = $3::name",
    )
    .bind(oid)
    .bind(name.as_str())
    .bind(world.database_owner().as_str())
    .bind(of_ours(logins))
    .fetch_optional(connection)
    .await)?;
    let Some(row) = row else { return Ok(None) };
    let logins: Vec<String> = sql(row.try_get("logins"))?;
    Ok(Some(Ours { invalid: sql(row.try_get("invalid"))?, logins: parsed(&logins)? }))
}

/// Closes the database and its logins. `alter database` on one whose drop was interrupted is a FATAL error.
async fn close(
    world: &PgWorld,
    connection: &mut PgConnection,
    name: &DatabaseName,
    ours: &Ours,
) -> Result<(), StepError> {
    if ours.invalid {
        return Ok(());
    }
    // `drop database` refuses what is still marked as a template.
    let mut closing = ddl::is_template(name, false).then(ddl::allow_connections(name, false));
    if world.connections.facts.rights != Rights::DatabasesOnly {
        for login in &ours.logins {
            closing = closing.then(ddl::close_login(login));
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
    let found: Vec<String> = sql(sqlx::query_scalar("select rolname::text from pg_roles where rolname = any($1)")
        .bind(of_ours(logins))
        .fetch_all(connection)
        .await)?;
    parsed(&found)
}

fn of_ours(logins: &[String]) -> Vec<&str> {
    logins.iter().map(String::as_str).filter(|login| RoleName::is_login_of_ours(login)).collect()
}

fn parsed<T: AsRef<str>>(names: &[T]) -> Result<Vec<RoleName>, StepError> {
    let parse = |name: &T| RoleName::parse("login", name.as_ref()).map_err(|e| StepError::Failed(e.to_string()));
    names.iter().map(parse).collect()
}

async fn drop_logins(world: &PgWorld, connection: &mut PgConnection, logins: &[String]) -> Result<(), StepError> {
    if world.connections.facts.rights == Rights::DatabasesOnly {
        return Ok(());
    }
    let names = parsed(&of_ours(logins))?;
    sql(names.iter().fold(ddl::Ddl::default(), |all, name| all.then(ddl::drop_role(name))).run(connection).await)
}
