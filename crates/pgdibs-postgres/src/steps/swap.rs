//! Swaps: a used database leaves its slot and a spare enters it, in one transaction with our rows.
//!
//! Two swaps of one slot would otherwise rename the fresh database away without an error. So each transaction first locks our
//! rows and compares states, and after the renames checks that both names carry the expected oids.

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::lease::LeaseId;
use pgdibs_core::name::{DatabaseName, RoleName};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use super::fence::{End, fence};
use super::held_spare;
use super::login::Login;
use super::outcome::{sql, stale};
use super::sessions::BRIEF;
use super::used::{PASSED_ON, Swapped, check, is_leaving, lock, take_snapshot};
use super::{contended, tenants};
use crate::context::PgBackend;
use crate::ddl::{self, Ddl, LoginKind};
use crate::failpoint::{Point, reach};
use crate::rights::Rights;
use crate::scram;

/// Fences all the used databases together, then swaps each. The indexes are handed back with the results.
pub(super) async fn return_all(
    backend: &PgBackend,
    connection: &mut PgConnection,
    returns: &[(usize, DatabaseId, Option<DatabaseId>)],
) -> Vec<(usize, Result<(), StepError>)> {
    let ids: Vec<i64> = returns.iter().map(|(_, used, _)| used.0).collect();
    let failed = match fence(backend, connection, End::Lease, &ids, BRIEF).await {
        Ok(failed) => failed,
        Err(error) => return returns.iter().map(|(index, ..)| (*index, Err(error.clone()))).collect(),
    };
    let mut results = Vec::with_capacity(returns.len());
    for (index, used, spare) in returns {
        let result = match failed.iter().find(|(id, _)| *id == used.0) {
            Some((_, error)) => Err(error.clone()),
            None => return_around(backend, connection, *used, *spare).await,
        };
        results.push((*index, result));
    }
    results
}

/// A return, and once more when the first try met a spare that cannot be renamed (the slot is filled with another later) or a
/// database with the name that the used one gets.
async fn return_around(
    backend: &PgBackend,
    connection: &mut PgConnection,
    used: DatabaseId,
    spare: Option<DatabaseId>,
) -> Result<(), StepError> {
    let failed = match return_one(backend, connection, used, spare, used.0).await {
        Err(failed @ StepError::Failed(_)) => failed,
        done => return done,
    };
    if let Some(spare) = spare
        && held_spare::set_aside(connection, spare).await?
    {
        return return_one(backend, connection, used, None, used.0).await;
    }
    match other_number(backend, connection, used).await? {
        Some(number) => return_one(backend, connection, used, spare, number).await,
        None => Err(failed),
    }
}

/// A number for the name under which a used database leaves its slot, when another database has the name with its own number: tests may
/// make one (`login = "createdb"`), and can guess that number, but not this one. The name of a kept database was promised: the other
/// one loses it.
async fn other_number(
    backend: &PgBackend,
    connection: &mut PgConnection,
    used: DatabaseId,
) -> Result<Option<i64>, StepError> {
    let Some(used) = take_snapshot(connection, &[used.0]).await?.pop() else { return Ok(None) };
    if used.keep {
        let freed = tenants::free_name(backend, connection, &away(&used, true, used.id)).await?;
        return Ok(freed.then_some(used.id));
    }
    sql(sqlx::query_scalar(
        "select $2 + floor(random() * 1e9)::int8 * 1000000 where exists (select from pg_database where datname = $1::name)",
    )
    .bind(away(&used, false, used.id).as_str())
    .bind(used.id)
    .fetch_optional(connection)
    .await)
}

/// The name with which a used database leaves its slot.
fn away(used: &Swapped, keeps: bool, number: i64) -> DatabaseName {
    if keeps { DatabaseName::kept(&used.pool, number) } else { DatabaseName::old(&used.pool, number) }
}

async fn return_one(
    backend: &PgBackend,
    connection: &mut PgConnection,
    used: DatabaseId,
    spare: Option<DatabaseId>,
    number: i64,
) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let ids: Vec<i64> = std::iter::once(used.0).chain(spare.map(|s| s.0)).collect();
    let mut locked = lock(&mut transaction, &ids).await?;
    let position = locked.iter().position(|d| d.id == used.0).ok_or_else(|| stale("the used database is gone"))?;
    let used = locked.swap_remove(position);
    let spare = locked.pop();
    if !is_leaving(&used) {
        return Err(stale("the used database has left its slot already"));
    }
    // What became of the promise to keep: `kept` was decided when the lease ended.
    let keeps = used.state == "kept" && used.keep;
    let away = away(&used, keeps, number);
    let mut renames = ddl::bound_statements().then(ddl::rename(&used.name, &away));
    if keeps {
        renames = renames.then(open_to_keeper(backend, &used, &away));
    }
    let entering = match (&spare, used.slot) {
        (Some(spare), Some(slot)) => Some(Entering::new(spare, slot)?),
        _ => None,
    };
    if let Some(entering) = &entering {
        renames = renames.then(entering.statements());
    }
    sql(contended::run(&mut transaction, &renames).await)?;
    left(&mut transaction, &used, &away, keeps).await?;
    if let Some(entering) = &entering {
        entering.write(&mut transaction).await?;
    }
    reach(Point::ReturnRenamed).await;
    sql(transaction.commit().await)?;
    reach(Point::ReturnDone).await;
    Ok(())
}

/// Notes that a used database has left its slot, if its new name carries the oid that we meant.
async fn left(
    transaction: &mut PgConnection,
    used: &Swapped,
    away: &DatabaseName,
    keeps: bool,
) -> Result<(), StepError> {
    let done = sql(sqlx::query(
        "update databases set name = $2, slot = null, attempts = 0, retry_at = null,
                state = case when state = 'kept' and not $3 then 'retiring' else state end
         where id = $1 and exists (select from pg_database p where p.oid = $4 and p.datname = $2::name)",
    )
    .bind(used.id)
    .bind(away.as_str())
    .bind(keeps)
    .bind(oid(used))
    .execute(transaction)
    .await)?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(stale(PASSED_ON)) }
}

/// Lets a spare enter an empty slot.
pub(super) async fn fill(
    backend: &PgBackend,
    connection: &mut PgConnection,
    spare: DatabaseId,
    slot: u32,
) -> Result<(), StepError> {
    match enter(connection, spare, slot).await {
        Err(failed @ StepError::Failed(_)) => {
            let Some(found) = take_snapshot(connection, &[spare.0]).await?.pop() else { return Err(failed) };
            let name = DatabaseName::slot(&found.pool, slot);
            if tenants::free_name(backend, connection, &name).await? {
                enter(connection, spare, slot).await
            } else {
                Err(failed)
            }
        }
        done => done,
    }
}

async fn enter(connection: &mut PgConnection, spare: DatabaseId, slot: u32) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let spare = lock(&mut transaction, &[spare.0]).await?.pop().ok_or_else(|| stale("the spare is gone"))?;
    let entering = Entering::new(&spare, i32::try_from(slot).map_err(|_| stale("no such slot"))?)?;
    let statements = ddl::bound_statements().then(entering.statements());
    sql(contended::run(&mut transaction, &statements).await)?;
    entering.write(&mut transaction).await?;
    reach(Point::FillRenamed).await;
    sql(transaction.commit().await)?;
    reach(Point::FillDone).await;
    Ok(())
}

/// A locked spare on its way into a slot.
struct Entering<'a> {
    spare: &'a Swapped,
    slot: i32,
    name: DatabaseName,
}

impl<'a> Entering<'a> {
    fn new(spare: &'a Swapped, slot: i32) -> Result<Self, StepError> {
        if spare.state != "spare" {
            return Err(stale("the spare is taken"));
        }
        let name = DatabaseName::slot(&spare.pool, u32::try_from(slot).map_err(|_| stale("no such slot"))?);
        Ok(Self { spare, slot, name })
    }

    /// Renames it and opens it.
    fn statements(&self) -> Ddl {
        ddl::rename(&self.spare.name, &self.name).then(ddl::allow_connections(&self.name, true))
    }

    /// Notes it, if the name carries the oid that we meant and no reset has reserved the spare. A reset reserves under the row's
    /// lock without changing the row, so only a statement that begins after the lock was taken sees the reservation.
    async fn write(&self, transaction: &mut PgConnection) -> Result<(), StepError> {
        let done = sql(sqlx::query(
            "update databases set state = 'ready', name = $2, slot = $3, ready_at = now(), attempts = 0, retry_at = null
             where id = $1 and exists (select from pg_database p where p.oid = $4 and p.datname = $2::name)
               and not exists (select from leases where reset_to = $1)",
        )
        .bind(self.spare.id)
        .bind(self.name.as_str())
        .bind(self.slot)
        .bind(oid(self.spare))
        .execute(transaction)
        .await)?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(stale(PASSED_ON)) }
    }
}

/// Swaps the reserved spare under a live lease, which keeps its login and its URL.
pub(super) async fn reset(
    backend: &PgBackend,
    connection: &mut PgConnection,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
) -> Result<(), StepError> {
    match reset_to(backend, connection, lease, used, spare).await {
        Err(StepError::Failed(_)) if held_spare::set_aside(connection, spare).await? => {
            Err(stale("a session that does not end locks the spare; the reset takes another"))
        }
        result => result,
    }
}

async fn reset_to(
    backend: &PgBackend,
    connection: &mut PgConnection,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
) -> Result<(), StepError> {
    if let Some((_, error)) = fence(backend, connection, End::Reset, &[used.0], BRIEF).await?.pop() {
        return Err(error);
    }
    match exchange(backend, connection, lease, used, spare, used.0).await {
        Err(failed @ StepError::Failed(_)) => match other_number(backend, connection, used).await? {
            Some(number) => exchange(backend, connection, lease, used, spare, number).await,
            None => Err(failed),
        },
        done => done,
    }
}

async fn exchange(
    backend: &PgBackend,
    connection: &mut PgConnection,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
    number: i64,
) -> Result<(), StepError> {
    let mut transaction = sql(connection.begin().await)?;
    let (used, spare, shared) = lock_reset(&mut transaction, lease, used, spare).await?;
    let slot = used.slot.ok_or_else(|| stale("the leased database has no slot"))?;
    let name = used.name.clone();
    let away = away(&used, used.keep, number);
    let mut swap = ddl::bound_statements().then(ddl::rename(&used.name, &away)).then(ddl::rename(&spare.name, &name));
    swap = swap
        .then(ddl::revoke_connect(&away, &used.login))
        .then(ddl::revoke_connect(&name, &spare.login))
        .then(ddl::grant_connect(&name, &used.login));
    if let Some(shared) = &shared {
        swap = swap.then(ddl::revoke_connect(&away, &shared.name)).then(ddl::grant_connect(&name, &shared.name));
    }
    for login in std::iter::once(Login::of(&used)).chain(shared) {
        swap = swap.then(login.restore(backend, &mut transaction, spare.oid, &name).await?);
    }
    if used.keep {
        swap = swap.then(open_to_keeper(backend, &used, &away));
    }
    swap = swap.then(ddl::allow_connections(&name, true));
    sql(contended::run(&mut transaction, &swap).await)?;
    check(&mut transaction, &[(used.oid, &away), (spare.oid, &name)]).await?;
    // The logins are exchanged: the used database takes the one that nobody knows with it into its grave.
    // In one statement, so that no password is a parameter that the server's log could show. The slot and the name are unique,
    // so the spare gets them in a statement of its own.
    sql(sqlx::query(
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
    .await)?;
    sql(sqlx::query("update databases set name = $2, slot = $3, state = 'leased', ready_at = now() where id = $1")
        .bind(spare.id)
        .bind(name.as_str())
        .bind(slot)
        .execute(&mut *transaction)
        .await)?;
    sql(sqlx::query(
        "update leases set database_id = $2, generation = generation + 1, reset_to = null, renewals = renewals + 1, renewed_at = now()
         where id = $1",
    )
    .bind(lease)
    .bind(spare.id)
    .execute(&mut *transaction)
    .await)?;
    reach(Point::ResetRenamed).await;
    sql(transaction.commit().await)?;
    reach(Point::ResetDone).await;
    Ok(())
}

async fn lock_reset(
    transaction: &mut PgConnection,
    lease: LeaseId,
    used: DatabaseId,
    spare: DatabaseId,
) -> Result<(Swapped, Swapped, Option<Login>), StepError> {
    let shared: Option<(Option<String>, Option<String>)> = sql(sqlx::query_as(
        "select shared_login, shared_verifier from leases where id = $1 and state = 'live' and reset_to = $2 and database_id = $3 for update",
    )
    .bind(lease)
    .bind(spare.0)
    .bind(used.0)
    .fetch_optional(&mut *transaction)
    .await)?;
    let (shared, verifier) = shared.ok_or_else(|| stale("the reset is done, or the lease is over"))?;
    let shared = shared
        .map(|login| RoleName::parse("shared_login", &login).map_err(|e| StepError::Failed(e.to_string())))
        .transpose()?;
    let locked = lock(transaction, &[used.0, spare.0]).await?;
    let (mut old, mut fresh) = (None, None);
    for database in locked {
        if database.id == used.0 && database.state == "leased" {
            old = Some(database);
        } else if database.id == spare.0 && database.state == "spare" {
            fresh = Some(database);
        }
    }
    match (old, fresh) {
        (Some(old), Some(fresh)) => {
            let shared = shared.map(|name| Login { name, verifier, ..Login::of(&old) });
            Ok((old, fresh, shared))
        }
        _ => Err(stale("the databases of the reset are not leased and spare")),
    }
}

/// Opens a kept database to a login of its own, and to nobody else.
fn open_to_keeper(backend: &PgBackend, used: &Swapped, kept: &DatabaseName) -> Ddl {
    let Some(login) = &used.keep_login else { return Ddl::default() };
    let verifier = scram::verifier(used.keep_password.as_deref().unwrap_or_default());
    let mut opened =
        ddl::create_login(login, &verifier, &used.acts_as, LoginKind::plain(backend.connections.facts.rights));
    if backend.connections.facts.rights == Rights::DatabasesAndRoles {
        opened = opened.then(ddl::grant_role(login, &backend.connections.facts.role, backend.connections.facts.major));
    }
    if used.has_login {
        opened = opened.then(ddl::revoke_connect(kept, &used.login));
    }
    opened.then(ddl::grant_connect(kept, login)).then(ddl::allow_connections(kept, true))
}

/// The oid of a database, in the type that lets Postgres use its index.
fn oid(database: &Swapped) -> Oid {
    Oid(u32::try_from(database.oid).unwrap_or(0))
}
