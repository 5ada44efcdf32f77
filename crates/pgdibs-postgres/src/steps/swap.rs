//! Swaps: a used database leaves its slot and a spare enters it, in one transaction with the catalog's rows.
//!
//! Without locks, a second swap of the same slot would rename the fresh database away without an error. So each transaction first locks
//! the rows and compares states, and after the renames checks that both names have the expected oids.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::lease::LeaseId;
use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::plan::Step;
use pgdibs_core::pool::LoginSettings;
use sqlx::Connection as _;
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
    let mut transaction = ctx.connection.begin().await?;
    let ids: Vec<i64> = std::iter::once(used.0).chain(spare.map(|s| s.0)).collect();
    let mut locked = row::lock(&mut transaction, &ids).await?;
    let position = locked.iter().position(|d| d.id == used.0);
    let used = locked.swap_remove(position.ok_or_else(|| stale("the used database was deleted"))?);
    let spare = locked.pop();
    if !used.is_leaving() {
        return Err(stale("the used database has left its slot already"));
    }
    // State `kept` was decided at the end of the lease; the keep may have ended since.
    let keeps = used.state == "kept" && used.keep;
    let away = away(&used, keeps, number);
    let mut renames = ddl::bound_statements().then(ddl::rename(&used.name, &away));
    if keeps {
        renames = renames.then(open_to_keeper(ctx.backend, &used, &away));
    }
    let mut new = None;
    if let (Some(spare), Some(slot)) = (&spare, used.slot) {
        let (name, statements) = entering(spare, slot)?;
        renames = renames.then(statements);
        new = Some((spare, slot, name));
    }
    contended::run(&mut transaction, &renames).await?;
    row::check_oids(&mut transaction, &[(used.oid, &away)]).await?;
    sqlx::query(
        "update databases set name = $2, slot = null, attempts = 0, retry_at = null,
                state = case when state = 'kept' and not $3 then 'retiring' else state end
         where id = $1",
    )
    .bind(used.id)
    .bind(away.as_str())
    .bind(keeps)
    .execute(&mut *transaction)
    .await?;
    if let Some((spare, slot, name)) = new {
        entered(&mut transaction, spare, slot, &name).await?;
    }
    reach(Failpoint::ReturnRenamed).await;
    transaction.commit().await?;
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
    let mut transaction = connection.begin().await?;
    let spare = row::lock(&mut transaction, &[spare.0]).await?.pop().ok_or_else(|| stale("the spare was deleted"))?;
    let slot = i32::try_from(slot).map_err(|_| stale("no such slot"))?;
    let (name, statements) = entering(&spare, slot)?;
    contended::run(&mut transaction, &ddl::bound_statements().then(statements)).await?;
    entered(&mut transaction, &spare, slot, &name).await?;
    reach(Failpoint::FillRenamed).await;
    transaction.commit().await?;
    reach(Failpoint::FillDone).await;
    Ok(())
}

/// The name of a locked spare in its slot, and the statements that move it there.
fn entering(spare: &DatabaseRow, slot: i32) -> Result<(DatabaseName, Ddl)> {
    if spare.state != "spare" {
        return Err(stale("the spare is taken"));
    }
    let name = DatabaseName::slot(&spare.pool, u32::try_from(slot).map_err(|_| stale("no such slot"))?);
    let statements = ddl::rename(&spare.name, &name).then(ddl::allow_connections(&name, true));
    Ok((name, statements))
}

/// Updates the spare's row after its rename, if no reset has reserved the spare. A reset reserves under the row's lock without changing
/// the row, so only a statement that begins after the lock was taken sees the reservation.
async fn entered(connection: &mut PgConnection, spare: &DatabaseRow, slot: i32, name: &DatabaseName) -> Result<()> {
    row::check_oids(connection, &[(spare.oid, name)]).await?;
    let done = sqlx::query(
        "update databases set state = 'ready', name = $2, slot = $3, ready_at = now(), attempts = 0, retry_at = null
         where id = $1 and not exists (select from leases where reset_to = $1)",
    )
    .bind(spare.id)
    .bind(name.as_str())
    .bind(slot)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(stale("the spare was reserved for a reset")) }
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
    let mut transaction = ctx.connection.begin().await?;
    let (used, spare, shared) = lock_reset(&mut transaction, lease, used, spare).await?;
    let slot = used.slot.ok_or_else(|| stale("the leased database has no slot"))?;
    let name = used.name.clone();
    let away = away(&used, used.keep, number);
    let mut swap = ddl::bound_statements()
        .then(ddl::rename(&used.name, &away))
        .then(ddl::rename(&spare.name, &name))
        .then(ddl::revoke_connect(&name, &spare.login.name));
    for login in std::iter::once(&used.login).chain(&shared) {
        swap = swap
            .then(ddl::revoke_connect(&away, &login.name))
            .then(ddl::grant_connect(&name, &login.name))
            .then(login.restore(ctx.backend, &mut transaction, spare.oid, &name).await?);
    }
    if used.keep {
        swap = swap.then(open_to_keeper(ctx.backend, &used, &away));
    }
    swap = swap.then(ddl::allow_connections(&name, true));
    contended::run(&mut transaction, &swap).await?;
    row::check_oids(&mut transaction, &[(used.oid, &away), (spare.oid, &name)]).await?;
    // Exchanges the logins: the used database gets the spare's, which no holder knows. In one statement, so that no password is a parameter,
    // which the server's log could show. Slot and name are unique, so the spare gets them in a statement of its own.
    sqlx::query(
        "update databases d set login = o.login, password = o.password, verifier = o.verifier, attempts = 0, retry_at = null,
                name = case d.id when $1 then $3 else d.name end, slot = null,
                state = case d.id when $1 then $4 else d.state end,
                reason = case d.id when $1 then 'its lease was reset' else d.reason end
         from databases o where (d.id = $1 and o.id = $2) or (d.id = $2 and o.id = $1)",
    )
    .bind(used.id)
    .bind(spare.id)
    .bind(away.as_str())
    .bind(if used.keep { "kept" } else { "retiring" })
    .execute(&mut *transaction)
    .await?;
    sqlx::query("update databases set name = $2, slot = $3, state = 'leased', ready_at = now() where id = $1")
        .bind(spare.id)
        .bind(name.as_str())
        .bind(slot)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "update leases set database_id = $2, generation = generation + 1, reset_to = null, renewals = renewals + 1, renewed_at = now()
         where id = $1",
    )
    .bind(lease)
    .bind(spare.id)
    .execute(&mut *transaction)
    .await?;
    reach(Failpoint::ResetRenamed).await;
    transaction.commit().await?;
    reach(Failpoint::ResetDone).await;
    Ok(())
}

/// Locks the lease and both databases. Returns the used one, the spare, and the login that the lease shares with its batch.
async fn lock_reset(
    transaction: &mut PgConnection,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
) -> Result<(DatabaseRow, DatabaseRow, Option<Login>)> {
    let found: Option<(Option<String>, Option<String>)> = sqlx::query_as(
        "select shared_login, shared_verifier from leases where id = $1 and state = 'live' and reset_to = $2 and database_id = $3 for update",
    )
    .bind(lease)
    .bind(spare.0)
    .bind(used.0)
    .fetch_optional(&mut *transaction)
    .await?;
    let (shared, verifier) = found.ok_or_else(|| stale("the reset is done, or the lease has ended"))?;
    let mut locked = row::lock(transaction, &[used.0, spare.0]).await?;
    let mut find = |id: DatabaseId, state: &str| {
        let position = locked.iter().position(|d| d.id == id.0 && d.state == state)?;
        Some(locked.swap_remove(position))
    };
    let (Some(used), Some(spare)) = (find(used, "leased"), find(spare, "spare")) else {
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
