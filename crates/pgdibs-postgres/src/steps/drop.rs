//! Drops: the database first, then its logins, then its row. The row goes last, so nothing can be left that no row names.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::template::TemplateId;
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{Connection as _, Row as _};

use super::contended;
use super::drop_by_name::{drop_by_name, end_all_sessions};
use super::outcome::{ServerProcess, sql, stale};
use super::sessions::end_sessions_of;
use super::tenants::{drop_handed_over, drop_what_they_made};
use crate::context::PgBackend;
use crate::ddl;
use crate::failpoint::{Point, reach};
use crate::sqlstate::{self, Meaning};

pub(super) async fn drop_database(
    backend: &PgBackend,
    connection: &mut PgConnection,
    server: &ServerProcess,
    database: DatabaseId,
) -> Result<(), StepError> {
    let mut used = find_used(connection, server, database).await?;
    if used.server.is_some_and(|found| !found.shut) {
        // What did not come here by a return: a spare, or one that somebody opened.
        let mut transaction = sql(connection.begin().await)?;
        used = find_used(&mut transaction, server, database).await?;
        if used.server.is_some_and(|found| !found.invalid) {
            close(&mut transaction, &used.name, &used.open_logins).await?;
        }
        sql(transaction.commit().await)?;
        reach(Point::DropClosed).await;
        if used.server.is_some() {
            end_all_sessions(connection, used.oid).await?;
        }
    }
    if used.server.is_some() {
        reach(Point::DropFenced).await;
        drop_by_name(backend, connection, &used.name, used.oid).await?;
    }
    reach(Point::DropDone).await;
    drop_logins(backend, connection, &used.logins).await?;
    if used.may_make_databases {
        drop_handed_over(backend, connection).await?;
    }
    reach(Point::DropLoginsDropped).await;
    sql(sqlx::query(
        "delete from databases d where d.id = $1 and not exists (select from pg_database p where p.oid = d.oid::oid)",
    )
    .bind(database.0)
    .execute(connection)
    .await)?;
    reach(Point::DropForgotten).await;
    Ok(())
}

/// A database that is to be dropped.
struct Used {
    name: DatabaseName,
    oid: i64,
    logins: Vec<String>,
    /// Those of its logins that can still log in.
    open_logins: Vec<RoleName>,
    /// Its pool's logins may.
    may_make_databases: bool,
    /// What the server has under its name, if that is ours and has the oid that the row remembers.
    server: Option<OnServer>,
}

/// What the server says of it.
#[derive(Clone, Copy)]
struct OnServer {
    /// Its drop was interrupted.
    invalid: bool,
    /// Closed, with its logins, no template, and without a session: nobody can get in any more, and nobody is there.
    shut: bool,
}

/// Locks the row and compares: its state, and on the server our owner, our name and the oid that the row remembers.
async fn find_used(
    connection: &mut PgConnection,
    server: &ServerProcess,
    database: DatabaseId,
) -> Result<Used, StepError> {
    let row = sql(sqlx::query(
        "select pg_backend_pid() as process, d.pool, d.name, d.oid, d.login, d.keep_login, p.datconnlimit = -2 as invalid,
                not p.datallowconn and not p.datistemplate
                  and not exists (select from pg_stat_activity a where a.datid = p.oid and a.usesysid is not null) as empty,
                array(select rolname::text from pg_roles where rolname in (d.login, d.keep_login) and rolcanlogin) as open_logins,
                exists (select from pools where name = d.pool and login <> 'plain') as may_make_databases
         from databases d
         left join (pg_database p join pg_roles r on r.oid = p.datdba and r.rolname = $2::name)
              on p.oid = d.oid::oid and p.datname = d.name::name
         where d.id = $1 and d.state in ('retiring', 'blocked') and d.oid is not null
           and (d.slot is null or p.datconnlimit = -2)
           and not exists (select from leases where (state = 'live' and database_id = d.id) or reset_to = d.id)
         for update of d",
    )
    .bind(database.0)
    .bind(RoleName::database_owner().as_str())
    .fetch_optional(&mut *connection)
    .await)?;
    let Some(row) = row else { return Err(stale("the database is not to be dropped")) };
    server.heard_in(&row)?;
    let (name, oid) = named(&row)?;
    let mut logins: Vec<String> = vec![sql(row.try_get("login"))?];
    logins.extend(sql(row.try_get::<Option<String>, _>("keep_login"))?);
    let can_log_in: Vec<String> = sql(row.try_get("open_logins"))?;
    let open_logins = parsed(&of_ours(&can_log_in))?;
    let server = match sql(row.try_get::<Option<bool>, _>("invalid"))? {
        Some(invalid) => {
            let shut = open_logins.is_empty() && sql(row.try_get("empty"))?;
            Some(OnServer { invalid, shut })
        }
        None => None,
    };
    Ok(Used { name, oid, logins, open_logins, may_make_databases: sql(row.try_get("may_make_databases"))?, server })
}

pub(super) async fn drop_template(
    backend: &PgBackend,
    connection: &mut PgConnection,
    server: &ServerProcess,
    template: TemplateId,
) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let row = sql(sqlx::query(
        "select pg_backend_pid() as process, t.pool, t.name, coalesce(t.oid, p.oid::int8) as oid from templates t
         left join pg_database p on p.datname = t.name
         where t.id = $1 and t.state in ('retiring', 'failed')
           and not exists (select from databases d where d.template_id = t.id and d.oid is null) for update of t",
    )
    .bind(template.0)
    .fetch_optional(&mut *transaction)
    .await)?;
    let Some(row) = row else { return Err(stale("the template is not to be dropped")) };
    server.heard_in(&row)?;
    let login = RoleName::login(template.0).to_string();
    let found = if sql(row.try_get::<Option<i64>, _>("oid"))?.is_some() { Some(named(&row)?) } else { None };
    let mut there = None;
    if let Some((name, oid)) = found
        && let Some(invalid) = is_ours(&mut transaction, &name, oid).await?
    {
        if !invalid {
            let logins = existing(&mut transaction, std::slice::from_ref(&login)).await?;
            close(&mut transaction, &name, &logins).await?;
        }
        there = Some((name, oid));
    }
    sql(transaction.commit().await)?;
    reach(Point::TemplateClosed).await;

    if let Some((name, oid)) = there {
        end_all_sessions(connection, oid).await?;
        drop_by_name(backend, connection, &name, oid).await?;
    }
    reach(Point::TemplateDropped).await;
    drop_logins(backend, connection, &[login]).await?;
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

/// Our owner role *and* our name, with the oid that the row remembers; nothing else is ever dropped. `None`: not ours, or not there;
/// else whether its drop was interrupted.
async fn is_ours(connection: &mut PgConnection, name: &DatabaseName, oid: i64) -> Result<Option<bool>, StepError> {
    sql(sqlx::query_scalar(
        "select p.datconnlimit = -2 from pg_database p join pg_roles r on r.oid = p.datdba
         where p.oid = $1::int8::oid and p.datname = $2::name and r.rolname = $3::name",
    )
    .bind(oid)
    .bind(name.as_str())
    .bind(RoleName::database_owner().as_str())
    .fetch_optional(connection)
    .await)
}

/// Closes the database and these logins. (`alter database` on one whose drop was interrupted is a FATAL error.)
async fn close(connection: &mut PgConnection, name: &DatabaseName, logins: &[RoleName]) -> Result<(), StepError> {
    // `drop database` refuses what is still marked as a template.
    let closing = ddl::is_template(name, false).then(ddl::allow_connections(name, false));
    let closing = logins.iter().fold(closing, |closing, login| closing.then(ddl::close_login(login)));
    sql(contended::run(connection, &closing).await)
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
    logins.iter().map(String::as_str).filter(|login| RoleName::is_generated_login(login)).collect()
}

fn parsed<T: AsRef<str>>(names: &[T]) -> Result<Vec<RoleName>, StepError> {
    let parse = |name: &T| RoleName::parse("login", name.as_ref()).map_err(|e| StepError::Failed(e.to_string()));
    names.iter().map(parse).collect()
}

/// Drops logins of ours, with the databases that they made themselves (`login = "createdb"`).
///
/// A superuser's login may own something elsewhere, which is not ours to drop: it stays, closed, and the sweep tries again.
pub(crate) async fn drop_logins(
    backend: &PgBackend,
    connection: &mut PgConnection,
    logins: &[String],
) -> Result<(), StepError> {
    let names = parsed(&of_ours(logins))?;
    end_sessions_of(connection, &names.iter().map(RoleName::as_str).collect::<Vec<_>>()).await?;
    if backend.connections.facts.prepares_transactions {
        // A prepared transaction holds a lock on its role, and the drop would wait for it.
        drop_what_they_made(backend, connection, &names).await?;
    }
    let all = || names.iter().fold(ddl::bound_statements(), |all, name| all.then(ddl::drop_role(name)));
    let stays = |error: &sqlx::Error| matches!(sqlstate::meaning(error), Meaning::Owns | Meaning::Contended);
    match all().run(connection).await {
        Err(error) if stays(&error) => {}
        result => return sql(result),
    }
    drop_what_they_made(backend, connection, &names).await?;
    match all().run(connection).await {
        Err(error) if stays(&error) => {
            let why = sqlstate::sentence(&error);
            // Postgres lists there what is owned, by database.
            let what = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()?.detail());
            tracing::warn!(
                ?names,
                why,
                what,
                "cannot drop login, which is closed: something outside of its database refers to it"
            );
            Ok(())
        }
        result => sql(result),
    }
}
