//! Drops: the database first, then its logins, then its row. The row is deleted last, so everything that exists has a row that names it.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::template::TemplateId;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgDatabaseError};

use super::contended;
use super::drop_by_name::drop_by_name;
use super::listed_roles;
use super::made_roles::drop_connected;
use super::sessions::{end_all_sessions, end_sessions_of};
use super::step_context::ServerProcess;
use super::step_context::StepContext;
use super::tenants::{drop_handed_over, drop_what_they_made};
use crate::ddl::{self, Ddl};
use crate::error::{Result, failed, stale};
use crate::rights::Rights;
use crate::rows::Columns as _;
use crate::sqlstate::{self, ErrorClass};
use pgdibs_failpoint::{Failpoint, reach};

pub(super) async fn drop_database(
    ctx: &mut StepContext<'_>,
    server: &ServerProcess,
    database: DatabaseId,
) -> Result<()> {
    let used = find_used(ctx.connection, server, database).await?;
    if used.invalid.is_some() && !used.shut {
        // It was not returned from a slot: a spare, or an administrator opened it.
        if used.invalid == Some(false) {
            let expected = ddl::expect_databases(&[(database.0, &used.name, &used.state)]);
            let closing = expected.then(close(&used.name, &used.open_logins));
            let closing = closing.then(ddl::expect_oids(&[(database.0, &used.name)]));
            contended::run_at_once(ctx.connection, closing).await?;
        }
        reach(Failpoint::DropClosed).await;
        end_all_sessions(ctx.connection, used.oid).await?;
    }
    if used.invalid.is_some() {
        reach(Failpoint::DropFenced).await;
        drop_by_name(ctx, &used.name, used.oid).await?;
    }
    reach(Failpoint::DropDone).await;
    drop_logins(ctx, &used.logins).await?;
    if used.may_make_databases {
        drop_handed_over(ctx).await?;
    }
    reach(Failpoint::DropLoginsDropped).await;
    sqlx::query(
        "delete from databases d where d.id = $1 and not exists (select from pg_database p where p.oid = d.oid::oid)",
    )
    .bind(database.0)
    .execute(&mut *ctx.connection)
    .await?;
    reach(Failpoint::DropForgotten).await;
    Ok(())
}

/// A database that is to be dropped.
struct Used {
    name: DatabaseName,
    state: String,
    oid: i64,
    logins: Vec<String>,
    /// Those of its logins that can still log in.
    open_logins: Vec<RoleName>,
    /// Whether its pool's logins may create databases.
    may_make_databases: bool,
    /// Whether its drop was interrupted; `None` if the server has no database with this name and this oid.
    invalid: Option<bool>,
    /// Closed, with its logins, no template, and without a session: no session is in it, and none can start.
    shut: bool,
}

/// See `sql/database_to_drop.sql`.
async fn find_used(connection: &mut PgConnection, server: &ServerProcess, database: DatabaseId) -> Result<Used> {
    let row = sqlx::query(include_str!("../../sql/database_to_drop.sql"))
        .bind(database.0)
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| stale("the database is not to be dropped"))?;
    server.read(&row)?;
    let open_logins = login_names(&row.try_get::<Vec<String>, _>("open_logins")?);
    let name = row.database("name")?;
    // A database that another role took over is not dropped, and neither are its logins: its row says why until its owner is restored.
    if let Some(owner) = row.try_get::<Option<String>, _>("foreign_owner")? {
        return Err(failed(format!(
            "database \"{name}\" belongs to role \"{owner}\" now, and pgdibs drops only databases of its role \"{ours}\"; run ALTER DATABASE {name} OWNER TO {ours}, or drop it",
            ours = RoleName::database_owner()
        )));
    }
    Ok(Used {
        name,
        state: row.try_get("state")?,
        oid: row.try_get("oid")?,
        logins: row.try_get("logins")?,
        may_make_databases: row.try_get("may_make_databases")?,
        invalid: row.try_get("invalid")?,
        shut: open_logins.is_empty() && row.try_get::<Option<bool>, _>("empty")? == Some(true),
        open_logins,
    })
}

pub(super) async fn drop_template(
    ctx: &mut StepContext<'_>,
    server: &ServerProcess,
    template: TemplateId,
) -> Result<()> {
    let row = sqlx::query(
        "select pg_backend_pid() as process, t.pool, t.name, coalesce(t.oid, p.oid::int8) as oid, o.owner from templates t
         join pools o on o.name = t.pool left join pg_database p on p.datname = t.name
         where t.id = $1 and t.state in ('retiring', 'failed')
           and not exists (select from databases d where d.template_id = t.id and d.oid is null)",
    )
    .bind(template.0)
    .fetch_optional(&mut *ctx.connection)
    .await?
    .ok_or_else(|| stale("the template is not to be dropped"))?;
    server.read(&row)?;
    let name = row.database("name")?;
    let login = RoleName::login(template.0).to_string();
    // pgdibs's owner role *and* its name, with the oid of the row; nothing else is ever dropped.
    let found: Option<(i64, bool)> = sqlx::query_as(
        "select oid::int8, invalid from server_databases where oid = $1::int8::oid and name = $2::name and ours",
    )
    .bind(row.try_get::<Option<i64>, _>("oid")?)
    .bind(name.as_str())
    .fetch_optional(&mut *ctx.connection)
    .await?;
    if let Some((_, false)) = found {
        let logins = existing(ctx.connection, std::slice::from_ref(&login)).await?;
        contended::run_at_once(ctx.connection, close(&name, &logins)).await?;
    }
    reach(Failpoint::TemplateClosed).await;

    if let Some((oid, _)) = found {
        end_all_sessions(ctx.connection, oid).await?;
        drop_by_name(ctx, &name, oid).await?;
    }
    reach(Failpoint::TemplateDropped).await;
    drop_logins(ctx, &[login]).await?;
    // After a build that failed.
    listed_roles::take_back(ctx.connection, &row.role("owner")?, ctx.backend.facts().major).await?;
    // The row of a failed template is shown for an hour; that of a retired one, or of one whose pool is being dropped, is deleted now. While
    // a kept database refers to it the row stays, but its name is free for the next build of that fingerprint.
    let deleted = sqlx::query(
        "delete from templates t using pools p where t.id = $1 and p.name = t.pool
           and (t.state = 'retiring' or p.dropping or t.last_used_at < now() - interval '1 hour')
           and not exists (select from databases d where d.template_id = t.id)",
    )
    .bind(template.0)
    .execute(&mut *ctx.connection)
    .await?;
    if deleted.rows_affected() == 0 {
        sqlx::query("update templates set oid = null, name = pool || '_old_' || id where id = $1 and state in ('retiring', 'failed')")
            .bind(template.0)
            .execute(&mut *ctx.connection)
            .await?;
    }
    Ok(())
}

/// Closes the database and these logins. (`alter database` on one whose drop was interrupted is a FATAL error.)
fn close(name: &DatabaseName, logins: &[RoleName]) -> Ddl {
    // `drop database` refuses a database with the template flag.
    let closing = ddl::is_template(name, false).then(ddl::allow_connections(name, false));
    logins.iter().fold(closing, |closing, login| closing.then(ddl::close_login(login)))
}

/// Those of the names that exist as logins of pgdibs.
pub(super) async fn existing(connection: &mut PgConnection, logins: &[String]) -> Result<Vec<RoleName>, sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar("select rolname::text from pg_roles where rolname = any($1)")
        .bind(logins)
        .fetch_all(connection)
        .await?;
    Ok(login_names(&found))
}

/// Those of the names that only pgdibs gives to logins.
fn login_names(names: &[String]) -> Vec<RoleName> {
    let own = names.iter().filter(|name| RoleName::is_generated_login(name));
    own.filter_map(|name| RoleName::parse("login", name).ok()).collect()
}

/// Drops logins of pgdibs, with the databases that they created (`login = "createdb"`).
///
/// The roles that are connected with a superuser's login go too. It may own something elsewhere, which pgdibs does not drop: the login stays, closed, and garbage collection tries again.
pub(crate) async fn drop_logins(ctx: &mut StepContext<'_>, logins: &[String]) -> Result<()> {
    let names = login_names(logins);
    let has_superuser =
        end_sessions_of(ctx.connection, &names.iter().map(RoleName::as_str).collect::<Vec<_>>()).await?;
    if has_superuser && ctx.backend.facts().rights == Rights::Superuser {
        drop_connected(ctx, &names).await?;
    }
    if ctx.backend.facts().prepares_transactions {
        // A prepared transaction holds a lock on its role, and the drop would wait for it.
        drop_what_they_made(ctx, &names).await?;
    }
    let all = || names.iter().fold(ddl::bound_statements(), |all, name| all.then(ddl::drop_role(name)));
    let stays =
        |error: &sqlx::Error| matches!(sqlstate::class(error), ErrorClass::HasDependents | ErrorClass::Contended);
    match all().run(ctx.connection).await {
        Err(error) if stays(&error) => {}
        result => return Ok(result?),
    }
    drop_what_they_made(ctx, &names).await?;
    match all().run(ctx.connection).await {
        Err(error) if stays(&error) => {
            // The detail lists what the login owns, by database.
            let what = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()?.detail());
            let why = sqlstate::sentence(&error);
            tracing::warn!(
                ?names,
                why,
                what,
                "cannot drop closed login: something outside of its database refers to it"
            );
            Ok(())
        }
        result => Ok(result?),
    }
}
