//! Swaps: a used database leaves its slot and a spare enters it, in one transaction with the catalog's rows.
//!
//! Without locks, a second swap of the same slot would rename the fresh database away without an error. So each transaction first locks
//! the rows and compares states, and after the renames checks that both names have the expected oids: functions of the catalog do, which raise
//! an error, so that a swap is one message and its commit.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::lease::LeaseId;
use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::plan::Step;
use pgdibs_core::pool::LoginSettings;
use sqlx::postgres::PgConnection;

use super::fence::{End, fence};
use super::held_spare;
use super::login::Login;
use super::row::{self, DatabaseRow};
use super::sessions::BRIEF;
use super::step_context::StepContext;
use super::{contended, tenants};
use crate::context::PgBackend;
use crate::ddl::{self, Ddl};
use crate::error::{Result, stale};
use crate::scram;
use pgdibs_failpoint::{Failpoint, reach};

/// Fences all the used databases together, then swaps each.
pub(super) async fn return_all(ctx: &mut StepContext<'_>, returns: &[&Step]) -> Vec<Result<(), StepError>> {
    let pairs: Vec<(DatabaseId, Option<DatabaseId>)> = returns
        .iter()
        .filter_map(|step| if let Step::Return { used, spare } = step { Some((*used, *spare)) } else { None })
        .collect();
    let ids: Vec<i64> = pairs.iter().map(|(used, _)| used.0).collect();
    let failed = match fence(ctx, End::Lease, &ids, BRIEF).await.map_err(StepError::from) {
        Ok(failed) => failed,
        Err(error) => return vec![Err(error); pairs.len()],
    };
    let mut results = Vec::with_capacity(pairs.len());
    for (used, spare) in pairs {
        results.push(match failed.iter().find(|(id, _)| *id == used.0) {
            Some((_, error)) => Err(error.clone()),
            None => return_one(ctx, used, spare).await,
        });
    }
    results
}

/// A return, and once more when the first attempt met a spare that cannot be renamed (the slot is filled with another one later) or a
/// database with the name that the used one gets.
async fn return_one(ctx: &mut StepContext<'_>, used: DatabaseId, spare: Option<DatabaseId>) -> Result<(), StepError> {
    let failed = match swap(ctx, used, spare, used.0).await.map_err(StepError::from) {
        Err(failed @ StepError::Failed(_)) => failed,
        done => return done,
    };
    if let Some(spare) = spare
        && held_spare::set_aside(ctx.connection, spare).await?
    {
        return Ok(swap(ctx, used, None, used.0).await?);
    }
    match other_number(ctx, used).await? {
        Some(number) => Ok(swap(ctx, used, spare, number).await?),
        None => Err(failed),
    }
}

/// A number for the name of a used database outside its slot, when another database has the name with its own number: tests may create
/// one (`login = "createdb"`), and can guess that number, but not this one. The name of a kept database was promised, so the other database
/// is renamed.
async fn other_number(ctx: &mut StepContext<'_>, used: DatabaseId) -> Result<Option<i64>> {
    let Some(used) = row::read_one(ctx.connection, used.0).await? else { return Ok(None) };
    let away = away(&used, used.keep, used.id);
    if used.keep {
        let freed = tenants::free_name(ctx, &away).await?;
        return Ok(freed.then_some(used.id));
    }
    let number = sqlx::query_scalar(
        "select $2 + floor(random() * 1e9)::int8 * 1000000 where exists (select from pg_database where datname = $1::name)",
    );
    Ok(number.bind(away.as_str()).bind(used.id).fetch_optional(&mut *ctx.connection).await?)
}

/// The name of a used database outside its slot.
fn away(used: &DatabaseRow, keeps: bool, number: i64) -> DatabaseName {
    if keeps { DatabaseName::kept(&used.pool, number) } else { DatabaseName::old(&used.pool, number) }
}

async fn swap(ctx: &mut StepContext<'_>, used: DatabaseId, spare: Option<DatabaseId>, number: i64) -> Result<()> {
    let ids: Vec<i64> = std::iter::once(used.0).chain(spare.map(|s| s.0)).collect();
    let mut found = row::read(ctx.connection, &ids).await?;
    let position = found.iter().position(|d| d.id == used.0);
    let used = found.swap_remove(position.ok_or_else(|| stale("the used database was deleted"))?);
    let spare = found.pop();
    if !used.is_leaving() {
        return Err(stale("the used database has left its slot already"));
    }
    // State `kept` was decided at the end of the lease; the keep may have ended since.
    let keeps = used.state == "kept" && used.keep;
    let away = away(&used, keeps, number);
    let mut expected = vec![(used.id, &used.name, used.state.as_str())];
    let mut swap = ddl::rename(&used.name, &away);
    if keeps {
        swap = swap.then(open_to_keeper(ctx.backend, &used, &away));
    }
    swap = swap.then(ddl::used_left(used.id, &away, keeps));
    if let (Some(spare), Some(slot)) = (&spare, used.slot) {
        expected.push((spare.id, &spare.name, "spare"));
        swap = swap.then(entering(spare, slot)?);
    }
    contended::run(ctx.connection, ddl::expect_databases(&expected).then(swap), Failpoint::ReturnRenamed).await?;
    reach(Failpoint::ReturnDone).await;
    Ok(())
}

/// Moves a spare into an empty slot; once more when a database of tests had the slot's name.
pub(super) async fn fill(ctx: &mut StepContext<'_>, spare: DatabaseId, slot: u32) -> Result<()> {
    let failed = match enter(ctx.connection, spare, slot).await.map_err(StepError::from) {
        Err(failed @ StepError::Failed(_)) => failed,
        done => return Ok(done?),
    };
    if let Some(found) = row::read_one(ctx.connection, spare.0).await?
        && tenants::free_name(ctx, &DatabaseName::slot(&found.pool, slot)).await?
    {
        return enter(ctx.connection, spare, slot).await;
    }
    Err(failed.into())
}

async fn enter(connection: &mut PgConnection, spare: DatabaseId, slot: u32) -> Result<()> {
    let spare = row::read_one(connection, spare.0).await?.ok_or_else(|| stale("the spare was deleted"))?;
    let slot = i32::try_from(slot).map_err(|_| stale("no such slot"))?;
    let expected = ddl::expect_databases(&[(spare.id, &spare.name, "spare")]);
    contended::run(connection, expected.then(entering(&spare, slot)?), Failpoint::FillRenamed).await?;
    reach(Failpoint::FillDone).await;
    Ok(())
}

/// The statements that move a spare into a slot.
fn entering(spare: &DatabaseRow, slot: i32) -> Result<Ddl> {
    let name = DatabaseName::slot(&spare.pool, u32::try_from(slot).map_err(|_| stale("no such slot"))?);
    let renamed = ddl::rename(&spare.name, &name).then(ddl::allow_connections(&name, true));
    Ok(renamed.then(ddl::spare_entered(spare.id, &name, slot)))
}

/// Moves the reserved spare into the slot of a live lease, which keeps its login and its URL.
pub(super) async fn reset(
    ctx: &mut StepContext<'_>,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
) -> Result<()> {
    match reset_to(ctx, lease, used, spare).await {
        Err(StepError::Failed(_)) if held_spare::set_aside(ctx.connection, spare).await? => {
            Err(stale("a session that does not end locks the spare; the reset takes another"))
        }
        result => Ok(result?),
    }
}

async fn reset_to(
    ctx: &mut StepContext<'_>,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
) -> Result<(), StepError> {
    if let Some((_, error)) = fence(ctx, End::Reset, &[used.0], BRIEF).await?.pop() {
        return Err(error);
    }
    match exchange(ctx, lease, used, spare, used.0).await.map_err(StepError::from) {
        Err(failed @ StepError::Failed(_)) => match other_number(ctx, used).await? {
            Some(number) => Ok(exchange(ctx, lease, used, spare, number).await?),
            None => Err(failed),
        },
        done => done,
    }
}

async fn exchange(
    ctx: &mut StepContext<'_>,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
    number: i64,
) -> Result<()> {
    let (used, spare, shared) = read_reset(ctx.connection, lease, used, spare).await?;
    let name = used.name.clone();
    let away = away(&used, used.keep, number);
    let mut swap = ddl::expect_reset(lease, used.id, spare.id)
        .then(ddl::expect_databases(&[(used.id, &name, "leased"), (spare.id, &spare.name, "spare")]))
        .then(ddl::rename(&used.name, &away))
        .then(ddl::rename(&spare.name, &name))
        .then(ddl::revoke_connect(&name, &spare.login.name));
    for login in std::iter::once(&used.login).chain(&shared) {
        swap = swap
            .then(ddl::revoke_connect(&away, &login.name))
            .then(ddl::grant_connect(&name, &login.name))
            .then(login.restore(ctx.backend, ctx.connection, spare.oid, &name).await?);
    }
    if used.keep {
        swap = swap.then(open_to_keeper(ctx.backend, &used, &away));
    }
    swap = swap
        .then(ddl::allow_connections(&name, true))
        .then(ddl::reset_done(lease, used.id, &away, used.keep, spare.id));
    contended::run(ctx.connection, swap, Failpoint::ResetRenamed).await?;
    reach(Failpoint::ResetDone).await;
    Ok(())
}

/// Reads both databases and the lease. Returns the used one, the spare, and the login that the lease shares with its batch.
async fn read_reset(
    connection: &mut PgConnection,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
) -> Result<(DatabaseRow, DatabaseRow, Option<Login>)> {
    let found: Option<(Option<String>, Option<String>)> =
        sqlx::query_as("select shared_login, shared_verifier from leases where id = $1 and state = 'live'")
            .bind(lease)
            .fetch_optional(&mut *connection)
            .await?;
    let (shared, verifier) = found.ok_or_else(|| stale("the lease has ended"))?;
    let mut found = row::read(connection, &[used.0, spare.0]).await?;
    let mut find = |id: DatabaseId| {
        let position = found.iter().position(|d| d.id == id.0)?;
        Some(found.swap_remove(position))
    };
    let (Some(used), Some(spare)) = (find(used), find(spare)) else {
        return Err(stale("the databases of the reset are not leased and spare"));
    };
    let shared = shared.map(|login| RoleName::parse("shared_login", &login)).transpose()?;
    let shared = shared.map(|name| Login { name, verifier, ..used.login.clone() });
    Ok((used, spare, shared))
}

/// Opens a kept database to a login of its own alone.
fn open_to_keeper(backend: &PgBackend, used: &DatabaseRow, kept: &DatabaseName) -> Ddl {
    let Some(login) = &used.keep_login else { return Ddl::default() };
    let verifier = scram::verifier(used.keep_password.as_deref().unwrap_or_default());
    let mut opened = backend.create_login(login, &verifier, &used.login.acts_as, LoginSettings::default(), 0);
    if used.has_login {
        opened = opened.then(ddl::revoke_connect(kept, &used.login.name));
    }
    opened.then(ddl::grant_connect(kept, login)).then(ddl::allow_connections(kept, true))
}
