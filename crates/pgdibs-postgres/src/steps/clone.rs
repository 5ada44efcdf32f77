//! Clones: makes a login and a database for a row that was written before, and measures how long the copy took.

use std::time::Instant;

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::pool::{LoginRights, Strategy};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::outcome::{ServerProcess, sql, stale};
use super::sessions::end_sessions;
use super::{contended, tenants};
use crate::context::PgBackend;
use crate::ddl::{self, Ddl, LoginKind};
use crate::failpoint::{Point, reach};
use crate::rights::Rights;
use crate::scram;
use crate::sqlstate::{self, Meaning};

/// Clones timed with each strategy before one is chosen: the first one of each warms caches, so two are not enough.
const MEASURED_CLONES: i32 = 3;

pub(super) async fn clone(
    backend: &PgBackend,
    connection: &mut PgConnection,
    server: &ServerProcess,
    database: DatabaseId,
) -> Result<(), StepError> {
    let row = sql(sqlx::query(
        "select d.name, d.pool, d.login, d.password, d.template_id, t.name as template, t.settings, t.grants,
                t.strategy, p.strategy as wish, p.owner, p.login as may, p.connection_limit, t.file_copy_count, t.wal_log_count,
                exists (select from pg_roles r where r.rolname = p.owner) as has_owner, pg_backend_pid() as process
         from databases d join templates t on t.id = d.template_id join pools p on p.name = d.pool
         where d.id = $1 and d.state in ('creating', 'blocked') and d.oid is null and t.state = 'ready'",
    )
    .bind(database.0)
    .fetch_optional(&mut *connection)
    .await)?;
    let Some(row) = row else { return Err(stale("the clone is not wanted any more")) };
    server.heard_in(&row)?;
    let text = |column: &str| sql(row.try_get::<String, _>(column));
    let invalid = |e: pgdibs_core::name::InvalidName| StepError::Failed(e.to_string());
    let impossible = || StepError::Failed("the catalog holds an impossible name or word".to_owned());
    let pool = PoolName::parse(&text("pool")?).map_err(invalid)?;
    let name = DatabaseName::recognise(&pool, &text("name")?).ok_or_else(impossible)?;
    let template = DatabaseName::recognise(&pool, &text("template")?).ok_or_else(impossible)?;
    let login = RoleName::parse("login", &text("login")?).map_err(invalid)?;
    let owner = RoleName::parse("owner", &text("owner")?).map_err(invalid)?;
    let template_id: i64 = sql(row.try_get("template_id"))?;

    let may = LoginRights::parse(&text("may")?).ok_or_else(impossible)?;
    let connection_limit = u32::try_from(sql(row.try_get::<i32, _>("connection_limit"))?).unwrap_or(0);
    if !sql(row.try_get("has_owner"))? {
        make_role(backend, connection, &owner, MadeBy::of(&owner, &pool)).await?;
    }
    let kind = LoginKind { may, connection_limit, made_by: backend.connections.facts.rights };
    let verifier = make_login(backend, connection, &login, &text("password")?, &owner, kind).await?;
    reach(Point::CloneLoginMade).await;
    let strategy = choose(backend, &row)?;
    let began = Instant::now();
    match ddl::clone_database(&name, &template, &RoleName::database_owner(), strategy).run(connection).await {
        Ok(()) => {}
        // Made by a predecessor that died: the planner finds it under its name and lets it retire.
        Err(error) if sqlstate::meaning(&error) == Meaning::Exists => {
            tenants::free_name(backend, connection, &name).await?;
            return Err(stale("the database exists already"));
        }
        Err(error) if sqlstate::meaning(&error) == Meaning::InUse => {
            return Err(clear(connection, &template, template_id).await?);
        }
        Err(error) => return Err(super::outcome::Sql(error).into()),
    }
    let took = began.elapsed();
    reach(Point::CloneCreated).await;
    let finished = finish(connection, database, &row, &name, &login, &owner, verifier, took.as_secs_f64()).await;
    if matches!(finished, Err(StepError::Failed(_) | StepError::Stale(_))) {
        // The row stays, so that its attempts count. A copy left here would be taken for one whose creator died, dropped, and
        // replaced by a row that knows nothing of the failure: round and round without a pause.
        sql(ddl::drop_database(&name).run(connection).await)?;
    }
    finished?;
    let decided = sql(row.try_get::<Option<&str>, _>("strategy"))?.is_some();
    if let Some(strategy) = strategy.filter(|_| !decided) {
        measure(connection, template_id, strategy, took.as_secs_f64() * 1000.0).await?;
    }
    Ok(())
}

/// Somebody has opened the template and sits in it, and nothing can be cloned from it for as long as they do: it is closed again, and
/// they are shown the door. Returns what the step says, which is tried again soon.
async fn clear(connection: &mut PgConnection, template: &DatabaseName, id: i64) -> Result<StepError, StepError> {
    let oid: Option<i64> = sql(sqlx::query_scalar(
        "select p.oid::int8 from templates t join pg_database p on p.oid = t.oid::oid and p.datname = t.name
         join pg_roles r on r.oid = p.datdba where t.id = $1 and t.state = 'ready' and r.rolname = $2",
    )
    .bind(id)
    .bind(RoleName::database_owner().as_str())
    .fetch_optional(&mut *connection)
    .await)?;
    let Some(oid) = oid else { return Ok(stale("the template is gone")) };
    sql(ddl::allow_connections(template, false).run(connection).await)?;
    let left = end_sessions(connection, &[oid]).await?;
    let what =
        if left.is_empty() { "it was closed again and they were disconnected" } else { "they cannot be disconnected" };
    Ok(StepError::Failed(format!(
        "somebody opened template \"{template}\" and was connected to it, so that nothing could be cloned; {what}"
    )))
}

/// Grants, settings and our row, in one transaction: a spare is complete or it is no spare.
#[allow(clippy::too_many_arguments, reason = "one private call; a struct would only name the same nine things twice")]
async fn finish(
    connection: &mut PgConnection,
    database: DatabaseId,
    row: &sqlx::postgres::PgRow,
    name: &DatabaseName,
    login: &RoleName,
    owner: &RoleName,
    verifier: Option<String>,
    seconds: f64,
) -> Result<(), StepError> {
    let settings: Vec<String> = sql(row.try_get("settings"))?;
    let grants: Vec<String> = sql(row.try_get("grants"))?;
    let mut dress = ddl::close_to_all_but(name, login, owner);
    for (setting, value) in settings.iter().filter_map(|text| text.split_once('=')) {
        dress = dress.then(ddl::database_setting(name, setting, value));
    }
    for grant in &grants {
        // `privilege,grantable,role`: the role comes last because it alone may hold a comma.
        let mut parts = grant.splitn(3, ',');
        if let (Some(privilege), Some(grantable), Some(role)) = (parts.next(), parts.next(), parts.next())
            && let Some(statement) = ddl::grant(name, role, privilege, grantable == "true")
        {
            dress = dress.then(statement);
        }
    }
    let mut transaction = sql(connection.begin().await)?;
    sql(contended::run(&mut transaction, &dress).await)?;
    let done = sql(sqlx::query(
        "update databases d set state = 'spare', oid = p.oid::int8, clone_seconds = $3, attempts = 0, retry_at = null,
                last_error = null, reason = null, verifier = $5
         from pg_database p join pg_roles r on r.oid = p.datdba
         where d.id = $1 and d.state in ('creating', 'blocked') and d.oid is null and p.datname = $2 and r.rolname = $4",
    )
    .bind(database.0)
    .bind(name.as_str())
    .bind(seconds)
    .bind(RoleName::database_owner().as_str())
    .bind(verifier)
    .execute(&mut *transaction)
    .await)?;
    if done.rows_affected() != 1 {
        return Err(stale("the row of the clone changed meanwhile"));
    }
    reach(Point::CloneConfigured).await;
    sql(transaction.commit().await)?;
    reach(Point::CloneDone).await;
    Ok(())
}

/// Makes the login of a database; one that a predecessor made is given our password. Returns its verifier, if it has one of its own.
pub(super) async fn make_login(
    backend: &PgBackend,
    connection: &mut PgConnection,
    login: &RoleName,
    password: &str,
    owner: &RoleName,
    kind: LoginKind,
) -> Result<Option<String>, StepError> {
    let facts = &backend.connections.facts;
    // Several milliseconds of hashing, so not on a thread that others wait for.
    let password = password.to_owned();
    let verifier = tokio::task::spawn_blocking(move || scram::verifier(&password))
        .await
        .map_err(|error| StepError::Failed(error.to_string()))?;
    let mut statements = ddl::create_login(login, &verifier, owner, kind);
    if facts.rights == Rights::DatabasesAndRoles {
        // Without membership we could not end its sessions (42501).
        statements = statements.then(ddl::grant_role(login, &facts.role, facts.major));
    }
    match statements.run(connection).await {
        Ok(()) => {}
        Err(error) if sqlstate::meaning(&error) == Meaning::Exists => {
            sql(ddl::reopen_login(login, &verifier).run(connection).await)?;
        }
        Err(error) => return Err(super::outcome::Sql(error).into()),
    }
    Ok(Some(verifier))
}

/// The strategy for the next clone: the pool's, the measured one, or the one with fewer measurements.
fn choose(backend: &PgBackend, row: &sqlx::postgres::PgRow) -> Result<Option<Strategy>, StepError> {
    if backend.connections.facts.major < 15 {
        return Ok(None);
    }
    let acquire_request: String = sql(row.try_get("wish"))?;
    if let Some(fixed) = Strategy::parse(&acquire_request) {
        return Ok(Some(fixed));
    }
    let chosen: Option<String> = sql(row.try_get("strategy"))?;
    if let Some(chosen) = chosen.as_deref().and_then(Strategy::parse) {
        return Ok(Some(chosen));
    }
    let (files, wal): (i32, i32) = (sql(row.try_get("file_copy_count"))?, sql(row.try_get("wal_log_count"))?);
    Ok(Some(if wal < files { Strategy::WalLog } else { Strategy::FileCopy }))
}

/// Notes one clone's duration and, once both strategies were timed often enough, the faster one.
async fn measure(
    connection: &mut PgConnection,
    template: i64,
    strategy: Strategy,
    milliseconds: f64,
) -> Result<(), StepError> {
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
    sql(sqlx::query(statement).bind(template).bind(milliseconds).execute(&mut *connection).await)?;
    sql(sqlx::query(
        "update templates set strategy = case when file_copy_ms <= wal_log_ms then 'file_copy' else 'wal_log' end
         where id = $1 and strategy is null and file_copy_count >= $2 and wal_log_count >= $2",
    )
    .bind(template)
    .bind(MEASURED_CLONES)
    .execute(connection)
    .await)?;
    Ok(())
}

/// Who may have made a role that a pool uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeBy {
    /// The daemon alone: a role of that name that it did not make is left alone.
    Us,
    /// Any other role as well: the configuration names it.
    Anyone,
}

impl MadeBy {
    /// For the owner role of a pool: the default one is the daemon's alone, the configuration may name a role of another's.
    pub(super) fn of(owner: &RoleName, pool: &PoolName) -> Self {
        if *owner == RoleName::of_pool(pool) { Self::Us } else { Self::Anyone }
    }
}

/// Makes a role that no one logs in as, and records that it is ours, in one transaction. One that exists and is ours already is fine.
pub(super) async fn make_role(
    backend: &PgBackend,
    connection: &mut PgConnection,
    role: &RoleName,
    made_by: MadeBy,
) -> Result<(), StepError> {
    let facts = &backend.connections.facts;
    let (exists, ours): (bool, bool) = sql(sqlx::query_as(
        "select exists (select from pg_roles where rolname = $1), exists (select from roles where name = $1)",
    )
    .bind(role.as_str())
    .fetch_one(&mut *connection)
    .await)?;
    if exists && !ours && made_by == MadeBy::Us {
        return Err(StepError::Failed(format!(
            "role \"{role}\" exists and was not made by pgdibs, which would let every lease act as it; drop or rename it, or name another role for the pool"
        )));
    }
    if !exists {
        let mut transaction = sql(connection.begin().await)?;
        sql(sqlx::query("insert into roles (name) values ($1) on conflict do nothing")
            .bind(role.as_str())
            .execute(&mut *transaction)
            .await)?;
        sql(ddl::create_nologin_role(role).run(&mut transaction).await)?;
        sql(transaction.commit().await)?;
    }
    if facts.rights == Rights::DatabasesAndRoles {
        let granted: Ddl = ddl::grant_role(role, &facts.role, facts.major);
        sql(granted.run(connection).await)?;
    }
    Ok(())
}

/// Drops roles that we made for pools and that no pool names any more. One that something still refers to, in whatever database, stays
/// until a later sweep.
///
/// In a transaction that may also delete a pool: a pool of the same name that is made meanwhile waits for its end, and the next build
/// makes the role again.
pub(crate) async fn drop_unused_roles(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let unused: Vec<String> = sqlx::query_scalar(
        "select n.name from roles n
         where not exists (select from pools p where p.owner = n.name or n.name = any(p.roles))
           and not exists (select from pg_roles r join pg_shdepend d on d.refobjid = r.oid
                           where r.rolname = n.name and d.refclassid = 'pg_authid'::regclass
                             and d.classid <> 'pg_auth_members'::regclass)",
    )
    .fetch_all(&mut *connection)
    .await?;
    for name in unused {
        let Ok(role) = RoleName::parse("role", &name) else { continue };
        let mut savepoint = connection.begin().await?;
        match ddl::drop_role(&role).run(&mut savepoint).await {
            Ok(()) => {
                sqlx::query("delete from roles where name = $1").bind(&name).execute(&mut *savepoint).await?;
                savepoint.commit().await?;
            }
            Err(error) if sqlstate::meaning(&error) == Meaning::Unavailable => return Err(error),
            Err(error) => {
                tracing::debug!(%role, error = %sqlstate::sentence(&error), "cannot drop a role that no pool names yet");
                savepoint.rollback().await?;
            }
        }
    }
    Ok(())
}
