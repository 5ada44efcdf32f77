//! Clones: creates a login and a database for an existing row, and measures how long the copy takes.

use std::time::Instant;

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::pool::{Strategy, StrategyChoice};
use pgdibs_core::template::{auto_strategy, is_large, shares_blocks};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::roles::{make_login, make_owner};
use super::sessions::end_sessions;
use super::step_context::ServerProcess;
use super::step_context::StepContext;
use super::{contended, tenants};
use crate::context::PgBackend;
use crate::ddl::{self, Ddl};
use crate::disk::Writer;
use crate::error::{PgError, Result, failed, stale};
use crate::rows::Columns as _;
use crate::sqlstate::{self, ErrorClass};
use pgdibs_failpoint::{Failpoint, reach};

/// Clones timed with each strategy before one is chosen: the first one of each warms caches, so two are not enough.
const MEASURED_CLONES: i32 = 3;

pub(super) async fn clone(
    ctx: &mut StepContext<'_>,
    server: &ServerProcess,
    database: DatabaseId,
    writer: &Writer,
) -> Result<()> {
    let row = sqlx::query(
        "select d.name, d.pool, d.login, d.password, d.template_id, t.name as template, t.settings, t.grants,
                t.strategy, p.strategy as pool_strategy, p.owner, p.login as may, p.act_as, p.connection_limit,
                t.file_copy_count, t.wal_log_count, t.size_bytes, t.clone_seconds, t.clone_bytes,
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
    let size = row.maybe_number("size_bytes")?;
    let large = is_large(size);
    // Where blocks are not shared, the kernel's copy is slower than that of Postgres (265 MB on ext4: 0.56 s, 0.42 s).
    let may_share = large && shares_blocks(size, row.maybe_number("clone_bytes")?) != Some(false);
    let statement = ddl::clone_database(&name, &template, &RoleName::database_owner(), strategy);
    let (began, free) = (Instant::now(), ctx.backend.free_disk());
    let made = if may_share && strategy == Some(Strategy::FileCopy) && ctx.backend.clones_files() {
        clone_files(ctx, statement).await
    } else {
        statement.run(ctx.connection).await.map(|()| false)
    };
    let seconds = began.elapsed().as_secs_f64();
    let taken = free.zip(ctx.backend.free_disk()).map(|(before, after)| before.saturating_sub(after));
    let taken = match made {
        Ok(cloned) => taken.filter(|_| cloned && writer.ran_alone()),
        // A daemon that died created it: the planner finds it under its name and retires it.
        Err(error) if sqlstate::class(&error) == ErrorClass::Exists => {
            tenants::free_name(ctx, &name).await?;
            return Err(stale("the database exists already"));
        }
        Err(error) if sqlstate::class(&error) == ErrorClass::InUse => {
            return Err(close_template(ctx.connection, &template, template_id).await?);
        }
        Err(error) => return Err(error.into()),
    };
    reach(Failpoint::CloneCreated).await;
    let grants = grants(&row, &name, &login, &owner)?;
    let finished = finish(ctx.connection, database, grants, verifier, seconds).await.map_err(StepError::from);
    if matches!(finished, Err(StepError::Failed(_) | StepError::Stale(_))) {
        // The row stays, so that its attempts count. The next plan would take a copy that stayed for one whose creator died, drop it, and
        // replace it by a row without a failure, again and again without a pause.
        ddl::drop_database(&name).run(ctx.connection).await?;
    }
    finished?;
    if large || row.try_get::<Option<f64>, _>("clone_seconds")?.is_none() {
        record_cost(ctx.connection, template_id, seconds, taken).await?;
    }
    if let Some(strategy) = strategy
        && !large
        && row.try_get::<Option<&str>, _>("strategy")?.is_none()
    {
        measure(ctx.connection, template_id, strategy, seconds * 1000.0).await?;
    }
    Ok(())
}

/// Runs `create database` with `file_copy_method = clone`; false if the server had to copy the files.
///
/// Where clones cannot share blocks Linux copies silently, so only the disk that a clone takes tells. macOS, and a kernel or a file system without
/// `copy_file_range`, refuse it, each with a code of its own that Postgres reports as XX000 or 58030: when a copy succeeds after that, the
/// server copies from then on.
async fn clone_files(ctx: &mut StepContext<'_>, statement: Ddl) -> Result<bool, sqlx::Error> {
    ddl::clone_files(true).run(ctx.connection).await?;
    let cloned = statement.clone().run(ctx.connection).await;
    ddl::clone_files(false).run(ctx.connection).await?;
    match cloned {
        Err(error) if matches!(sqlstate::code(&error).as_deref(), Some("XX000" | "58030")) => {
            statement.run(ctx.connection).await?;
            let why = sqlstate::sentence(&error);
            tracing::warn!(why, "copying files from now on: the server cannot clone them (file_copy_method = clone)");
            ctx.backend.disk.clone_files_no_more();
            Ok(false)
        }
        cloned => cloned.map(|()| true),
    }
}

/// Records what a clone of a template took, for the planner and the status.
async fn record_cost(
    connection: &mut PgConnection,
    template: i64,
    seconds: f64,
    bytes: Option<u64>,
) -> Result<(), sqlx::Error> {
    let bytes = bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    sqlx::query("update templates set clone_seconds = $2, clone_bytes = coalesce($3, clone_bytes) where id = $1")
        .bind(template)
        .bind(seconds)
        .bind(bytes)
        .execute(connection)
        .await?;
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
    let measured = row.try_get::<Option<&str>, _>("strategy")?.and_then(Strategy::parse);
    if let Some(chosen) = auto_strategy(row.maybe_number("size_bytes")?, measured) {
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
