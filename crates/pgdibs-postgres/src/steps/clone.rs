//! Clones: creates a login and a database for an existing row, and measures how long the copy takes.

use std::time::Instant;

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::pool::{Strategy, StrategyChoice};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::roles::{make_login, make_owner};
use super::sessions::end_sessions;
use super::step_context::ServerProcess;
use super::step_context::StepContext;
use super::{contended, tenants};
use crate::context::PgBackend;
use crate::ddl::{self, Ddl};
use crate::error::{PgError, Result, failed, stale};
use crate::rows::Columns as _;
use crate::sqlstate::{self, ErrorClass};
use pgdibs_failpoint::{Failpoint, reach};

/// Clones timed with each strategy before one is chosen: the first one of each warms caches, so two are not enough.
const MEASURED_CLONES: i32 = 3;

pub(super) async fn clone(ctx: &mut StepContext<'_>, server: &ServerProcess, database: DatabaseId) -> Result<()> {
    let row = sqlx::query(
        "select d.name, d.pool, d.login, d.password, d.template_id, t.name as template, t.settings, t.grants,
                t.strategy, p.strategy as pool_strategy, p.owner, p.login as may, p.act_as, p.connection_limit,
                t.file_copy_count, t.wal_log_count,
                exists (select from pg_roles r where r.rolname = p.owner) as has_owner, pg_backend_pid() as process
         from databases d join templates t on t.id = d.template_id join pools p on p.name = d.pool
         where d.id = $1 and d.state in ('creating', 'blocked') and d.oid is null and t.state = 'ready'",
    )
    .bind(database.0)
    .fetch_optional(&mut *ctx.connection)
    .await?
    .ok_or_else(|| stale("the clone is not wanted any more"))?;
    server.read(&row)?;
    let name = row.database("name")?;
    let template = row.database("template")?;
    let template_id: i64 = row.try_get("template_id")?;
    let (login, owner) = (row.role("login")?, row.role("owner")?);
    if !row.try_get::<bool, _>("has_owner")? {
        make_owner(ctx, &owner, &row.pool()?).await?;
    }
    let (password, limit) = (row.try_get("password")?, row.number("connection_limit")?);
    let verifier = make_login(ctx, &login, password, &owner, row.login_settings()?, limit).await?;
    reach(Failpoint::CloneLoginMade).await;
    let strategy = choose(ctx.backend, &row)?;
    let began = Instant::now();
    match ddl::clone_database(&name, &template, &RoleName::database_owner(), strategy).run(ctx.connection).await {
        Ok(()) => {}
        // A daemon that died created it: the planner finds it under its name and retires it.
        Err(error) if sqlstate::class(&error) == ErrorClass::Exists => {
            tenants::free_name(ctx, &name).await?;
            return Err(stale("the database exists already"));
        }
        Err(error) if sqlstate::class(&error) == ErrorClass::InUse => {
            return Err(close_template(ctx.connection, &template, template_id).await?);
        }
        Err(error) => return Err(error.into()),
    }
    let seconds = began.elapsed().as_secs_f64();
    reach(Failpoint::CloneCreated).await;
    let grants = grants(&row, &name, &login, &owner)?;
    let finished = finish(ctx.connection, database, grants, verifier, seconds).await.map_err(StepError::from);
    if matches!(finished, Err(StepError::Failed(_) | StepError::Stale(_))) {
        // The row stays, so that its attempts count. The next plan would take a copy that stayed for one whose creator died, drop it, and
        // replace it by a row without a failure, again and again without a pause.
        ddl::drop_database(&name).run(ctx.connection).await?;
    }
    finished?;
    if let Some(strategy) = strategy
        && row.try_get::<Option<&str>, _>("strategy")?.is_none()
    {
        measure(ctx.connection, template_id, strategy, seconds * 1000.0).await?;
    }
    Ok(())
}

/// An administrator opened the template, and sessions in it prevent all clones: closes it again, and ends them. Returns the step's error; the
/// step is retried soon.
async fn close_template(connection: &mut PgConnection, template: &DatabaseName, id: i64) -> Result<PgError> {
    let oid: Option<i64> = sqlx::query_scalar(
        "select s.oid::int8 from templates t join server_databases s on s.oid = t.oid::oid and s.name = t.name
         where t.id = $1 and t.state = 'ready' and s.ours",
    )
    .bind(id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(oid) = oid else { return Ok(stale("the template was dropped")) };
    ddl::allow_connections(template, false).run(connection).await?;
    let left = end_sessions(connection, &[oid]).await?;
    let what = if left.is_empty() { "it was closed again, and they were ended" } else { "they cannot be ended" };
    Ok(failed(format!(
        "template \"{template}\" had been opened and had sessions, so that nothing could be cloned; {what}"
    )))
}

/// The privileges and settings of a clone: `create database … template` copies neither.
fn grants(row: &PgRow, name: &DatabaseName, login: &RoleName, owner: &RoleName) -> Result<Ddl, sqlx::Error> {
    let settings: Vec<String> = row.try_get("settings")?;
    let grants: Vec<String> = row.try_get("grants")?;
    let mut statements = ddl::close_to_all_but(name, login, owner);
    for (setting, value) in settings.iter().filter_map(|text| text.split_once('=')) {
        statements = statements.then(ddl::database_setting(name, setting, value));
    }
    for grant in &grants {
        // `privilege,grantable,role`: the role comes last because it alone may have a comma in it.
        let mut parts = grant.splitn(3, ',');
        if let (Some(privilege), Some(grantable), Some(role)) = (parts.next(), parts.next(), parts.next())
            && let Some(statement) = ddl::grant(name, role, privilege, grantable == "true")
        {
            statements = statements.then(statement);
        }
    }
    Ok(statements)
}

/// Grants, settings and the row, in one transaction: a spare is complete, or it is no spare.
async fn finish(
    connection: &mut PgConnection,
    database: DatabaseId,
    grants: Ddl,
    verifier: String,
    seconds: f64,
) -> Result<()> {
    let finished = grants.then(ddl::cloned(database.0, &verifier, seconds));
    contended::run(connection, finished, Failpoint::CloneConfigured).await?;
    reach(Failpoint::CloneDone).await;
    Ok(())
}

/// The strategy for the next clone: the pool's, the measured one, or the one with fewer measurements.
fn choose(backend: &PgBackend, row: &PgRow) -> Result<Option<Strategy>, sqlx::Error> {
    if backend.facts().major < 15 {
        return Ok(None);
    }
    if let StrategyChoice::Fixed(fixed) = row.parsed("pool_strategy", StrategyChoice::parse)? {
        return Ok(Some(fixed));
    }
    if let Some(chosen) = row.try_get::<Option<&str>, _>("strategy")?.and_then(Strategy::parse) {
        return Ok(Some(chosen));
    }
    let fewer = row.number::<i32>("wal_log_count")? < row.number("file_copy_count")?;
    Ok(Some(if fewer { Strategy::WalLog } else { Strategy::FileCopy }))
}

/// Records a clone's duration and, once both strategies were timed often enough, chooses the faster one.
async fn measure(
    connection: &mut PgConnection,
    template: i64,
    strategy: Strategy,
    milliseconds: f64,
) -> Result<(), sqlx::Error> {
    let statement = match strategy {
        Strategy::FileCopy => {
            "update templates set file_copy_ms = (file_copy_ms * file_copy_count + $2) / (file_copy_count + 1),
                    file_copy_count = file_copy_count + 1 where id = $1 and strategy is null"
        }
        Strategy::WalLog => {
            "update templates set wal_log_ms = (wal_log_ms * wal_log_count + $2) / (wal_log_count + 1),
                    wal_log_count = wal_log_count + 1 where id = $1 and strategy is null"
        }
    };
    sqlx::query(statement).bind(template).bind(milliseconds).execute(&mut *connection).await?;
    sqlx::query(
        "update templates set strategy = case when file_copy_ms <= wal_log_ms then 'file_copy' else 'wal_log' end
         where id = $1 and strategy is null and file_copy_count >= $2 and wal_log_count >= $2",
    )
    .bind(template)
    .bind(MEASURED_CLONES)
    .execute(connection)
    .await?;
    Ok(())
}
