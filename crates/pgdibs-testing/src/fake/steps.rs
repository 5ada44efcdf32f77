//! Steps of the fake backend: each checks the assumptions of the plan, changes the server, and writes its rows.

use std::collections::BTreeSet;

use super::catalog::{DatabaseRow, State, login_of, state_after_lease, timestamp};
use super::faults::{FaultPoint, Faults};
use super::server::FakeLogin;
use pgdibs_core::database::{Database, DatabaseId, DatabaseState};
use pgdibs_core::error::StepError;
use pgdibs_core::lease::{Credentials, End, LeaseId};
use pgdibs_core::name::DatabaseName;
use pgdibs_core::plan::{ForgetReason, RetireReason, Step};
use pgdibs_core::template::TemplateId;

/// Failed attempts after which a database is blocked.
const ATTEMPTS: u32 = 3;

/// Seconds until the retry of a failed step, and of a step on a blocked database.
const RETRY_SECONDS: f64 = 2.0;
const BLOCKED_RETRY_SECONDS: f64 = 60.0;

type Outcome = Result<(), StepError>;

pub(super) fn stale(what: impl Into<String>) -> StepError {
    StepError::Stale(what.into())
}

impl State {
    /// Executes one step, and calls `faults` at each fault point.
    pub(super) fn execute(&mut self, step: &Step, faults: &mut Option<Faults>) -> Outcome {
        let mut point = |at: FaultPoint| match faults.as_mut().and_then(|faults| faults(step, at)) {
            Some(error) => Err(error),
            None => Ok(()),
        };
        let outcome = point(FaultPoint::Before)
            .and_then(|()| self.apply(step, &mut || point(FaultPoint::Halfway)))
            .and_then(|()| point(FaultPoint::After));
        if let Err(StepError::Failed(text)) = &outcome {
            self.record_failure(step, text);
        }
        outcome
    }

    fn apply(&mut self, step: &Step, halfway: &mut dyn FnMut() -> Outcome) -> Outcome {
        match step {
            Step::EndLease { lease, end, renewals, reason } => {
                let renewed = self.leases.get(lease).is_some_and(|row| row.seen.renewals != *renewals);
                if *end == End::Expired && renewed {
                    return Err(stale("the lease was renewed"));
                }
                let login = self.leases.get(lease).and_then(|row| row.seen.credentials.clone());
                match self.end(*lease, end.state(), reason) {
                    Ok(true) => {
                        if let Some(login) = login {
                            self.server.close_login(&login.user);
                        }
                        Ok(())
                    }
                    _ => Err(stale("the lease has ended")),
                }
            }
            Step::Reset { lease, used, spare } => self.reset(*lease, *used, *spare, halfway),
            Step::Return { used, spare } => self.return_used(*used, *spare, halfway),
            Step::Fence { database } => self.fence(*database),
            Step::Fill { spare, slot } => self.fill(*spare, *slot),
            Step::Move { database, slot, displaced } => self.move_to(*database, *slot, *displaced),
            Step::Retire { database, reason } => self.retire(*database, *reason),
            Step::NewDatabases { template, count } => self.new_databases(*template, *count),
            Step::Clone { database, .. } => self.clone_template(*database, halfway),
            Step::Drop { database } => self.drop_database(*database, halfway),
            Step::Adopt { database, oid } => self.adopt(*database, *oid),
            Step::Forget { database, reason } => self.forget(*database, *reason),
            Step::CreateBuild { template } => self.create_build(*template, halfway),
            Step::Seal { template } => self.seal(*template, halfway),
            Step::FailBuild { template, reason } => self.fail_build(*template, reason),
            Step::RetireTemplate { template, reason } => self.retire_template(*template, *reason),
            Step::DropTemplate { template } => self.drop_template_database(*template, halfway),
            Step::ForgetPool { pool } => self.forget_pool(pool),
        }
    }

    pub(super) fn record_failure(&mut self, step: &Step, text: &str) {
        let now = self.now;
        if let Some(row) = step.database().and_then(|id| self.databases.get_mut(&id)) {
            row.seen.attempts += 1;
            row.seen.last_error = Some(text.to_owned());
            row.retry_at = now + RETRY_SECONDS;
            // A leased database stays leased, however often its reset fails.
            if row.seen.attempts >= ATTEMPTS && row.seen.state != DatabaseState::Leased {
                row.seen.state = DatabaseState::Blocked;
                row.seen.reason = Some(text.to_owned());
                row.retry_at = now + BLOCKED_RETRY_SECONDS;
            }
        }
        self.record_template_failure(step, text);
    }

    /// The row and the oid of a database in one of these states that exists under its name.
    fn present(&self, id: DatabaseId, states: &[DatabaseState]) -> Result<(Database, u32), StepError> {
        let row = self.databases.get(&id).ok_or_else(|| stale("the row no longer exists"))?;
        if !states.contains(&row.seen.state) {
            return Err(stale(format!("the database is {}", row.seen.state.as_str())));
        }
        match row.seen.oid {
            Some(oid) if self.server.is_named(oid, row.seen.name.as_str()) => Ok((row.seen.clone(), oid)),
            _ => Err(stale("no database with its oid has its name")),
        }
    }

    fn row(&mut self, id: DatabaseId) -> Result<&mut DatabaseRow, StepError> {
        self.databases.get_mut(&id).ok_or_else(|| stale("the row no longer exists"))
    }

    /// Renames a used database out of its slot; opens it to its kept login if it is kept.
    fn leave_slot(&mut self, used: &Database, oid: u32) -> Outcome {
        let state = state_after_lease(used.keep_until);
        let name = if state == DatabaseState::Kept {
            DatabaseName::kept(&used.pool, used.id.0)
        } else {
            DatabaseName::old(&used.pool, used.id.0)
        };
        self.server.rename(oid, name.as_str()).map_err(StepError::Failed)?;
        let kept_login = self.row(used.id)?.kept_login.clone().filter(|_| state == DatabaseState::Kept);
        if let Some(Credentials { user, password }) = kept_login {
            self.server.logins.insert(user.clone(), FakeLogin { password, can_login: true });
            self.server.open_to(oid, &[&user]);
        }
        let row = self.row(used.id)?;
        row.seen.state = state;
        row.seen.name = name;
        row.seen.slot = None;
        settle(row);
        Ok(())
    }

    /// Renames a spare into a slot and opens it to one login.
    fn enter_slot(&mut self, spare: &Database, oid: u32, slot: u32, login: &str) -> Outcome {
        let name = DatabaseName::slot(&spare.pool, slot);
        self.server.rename(oid, name.as_str()).map_err(StepError::Failed)?;
        self.server.open_to(oid, &[login]);
        if let Some(found) = self.server.logins.get_mut(login) {
            found.can_login = true;
        }
        let stamp = self.timestamp();
        let row = self.row(spare.id)?;
        row.seen.state = DatabaseState::Ready;
        row.seen.name = name;
        row.seen.slot = Some(slot);
        row.seen.ready_at = Some(stamp);
        settle(row);
        Ok(())
    }

    /// A spare that can enter the slot of `used`.
    fn free_spare(&self, id: DatabaseId, used: Option<&Database>) -> Result<(Database, u32), StepError> {
        let (spare, oid) = self.present(id, &[DatabaseState::Spare])?;
        if used.is_some_and(|used| used.pool != spare.pool) {
            return Err(stale("the spare belongs to another pool"));
        }
        if let Some(invalid) = self.server.databases.get(&oid).filter(|found| found.invalid) {
            return Err(stale(format!("a drop of \"{}\" was interrupted", invalid.name)));
        }
        Ok((spare, oid))
    }

    fn return_used(
        &mut self,
        used: DatabaseId,
        spare: Option<DatabaseId>,
        halfway: &mut dyn FnMut() -> Outcome,
    ) -> Outcome {
        let states = [DatabaseState::Retiring, DatabaseState::Kept, DatabaseState::Blocked];
        let (used, oid) = self.present(used, &states)?;
        let slot = used.slot.ok_or_else(|| stale("the database has left its slot"))?;
        let spare = spare.map(|id| self.free_spare(id, Some(&used))).transpose()?;
        if spare.as_ref().is_some_and(|(spare, _)| self.reserved().contains(&spare.id)) {
            return Err(stale("a reset has reserved the spare"));
        }
        // The fence runs before the transaction, so a rollback does not undo it.
        for login in self.server.databases[&oid].connect.clone() {
            self.server.close_login(&login);
        }
        self.server.close(oid);
        halfway()?;
        self.leave_slot(&used, oid)?;
        if let Some((spare, spare_oid)) = spare {
            self.enter_slot(&spare, spare_oid, slot, &login_of(spare.id.0))?;
        }
        Ok(())
    }

    fn reset(
        &mut self,
        lease: LeaseId,
        used: DatabaseId,
        spare: DatabaseId,
        halfway: &mut dyn FnMut() -> Outcome,
    ) -> Outcome {
        let found = self.live_lease(lease).map_err(|_| stale("the lease has ended"))?.clone();
        if found.database != Some(used) || found.reset_to != Some(spare) {
            return Err(stale("the lease has another database or reservation"));
        }
        let (used, oid) = self.present(used, &[DatabaseState::Leased])?;
        let (spare, spare_oid) = self.free_spare(spare, Some(&used))?;
        let slot = used.slot.ok_or_else(|| stale("the database has left its slot"))?;
        let login = found.credentials.map(|credentials| credentials.user).ok_or_else(|| stale("no login"))?;
        self.server.close(oid);
        halfway()?;
        self.leave_slot(&used, oid)?;
        self.enter_slot(&spare, spare_oid, slot, &login)?;
        self.row(spare.id)?.seen.state = DatabaseState::Leased;
        if let Some(row) = self.leases.get_mut(&lease) {
            row.seen.database = Some(spare.id);
            row.seen.reset_to = None;
            row.seen.generation += 1;
        }
        Ok(())
    }

    fn fence(&mut self, database: DatabaseId) -> Outcome {
        let states = [DatabaseState::Retiring, DatabaseState::Kept, DatabaseState::Blocked, DatabaseState::Leased];
        let (used, oid) = self.present(database, &states)?;
        if used.state != DatabaseState::Leased {
            for login in self.server.databases[&oid].connect.clone() {
                self.server.close_login(&login);
            }
        } else if !self.leases.values().any(|row| row.seen.database == Some(database) && row.seen.reset_to.is_some()) {
            return Err(stale("its lease is not being reset"));
        }
        self.server.close(oid);
        Ok(())
    }

    fn fill(&mut self, spare: DatabaseId, slot: u32) -> Outcome {
        let (spare, oid) = self.free_spare(spare, None)?;
        if self.reserved().contains(&spare.id) {
            return Err(stale("a reset has reserved the spare"));
        }
        if self.databases.values().any(|row| row.seen.pool == spare.pool && row.seen.slot == Some(slot)) {
            return Err(stale(format!("slot {slot} is taken")));
        }
        self.enter_slot(&spare, oid, slot, &login_of(spare.id.0))
    }

    fn move_to(&mut self, database: DatabaseId, slot: u32, displaced: Option<DatabaseId>) -> Outcome {
        let (moved, oid) = self.present(database, &[DatabaseState::Ready])?;
        let other = displaced.map(|id| self.present(id, &[DatabaseState::Ready])).transpose()?;
        let holder = self.databases.values().find(|row| row.seen.pool == moved.pool && row.seen.slot == Some(slot));
        if moved.slot <= Some(slot) || holder.map(|row| row.seen.id) != displaced {
            return Err(stale("the slots have changed"));
        }
        let target = DatabaseName::slot(&moved.pool, slot);
        if let Some((other, other_oid)) = &other {
            let aside = DatabaseName::spare(&other.pool, other.id.0);
            self.server.rename(*other_oid, aside.as_str()).map_err(StepError::Failed)?;
        }
        // The real step is one transaction: a name that is in use undoes the first rename.
        let renamed = self.server.rename(oid, target.as_str()).map_err(StepError::Failed);
        if let Some((other, other_oid)) = &other {
            let name = if renamed.is_ok() { moved.name.as_str() } else { other.name.as_str() };
            self.server.rename(*other_oid, name).map_err(StepError::Failed)?;
        }
        renamed?;
        if let Some((other, _)) = other {
            let row = self.row(other.id)?;
            row.seen.name = moved.name;
            row.seen.slot = moved.slot;
            settle(row);
        }
        let row = self.row(database)?;
        row.seen.name = target;
        row.seen.slot = Some(slot);
        settle(row);
        Ok(())
    }

    fn retire(&mut self, database: DatabaseId, reason: RetireReason) -> Outcome {
        if self.reserved().contains(&database) && !reason.is_damage() {
            return Err(stale("a reset has reserved it"));
        }
        let now = timestamp(self.now);
        let dropping: BTreeSet<_> =
            self.pools.values().filter(|pool| pool.dropping).map(|pool| pool.name.clone()).collect();
        let row = self.row(database)?;
        let keep_expired = row.seen.keep_until.is_some_and(|until| until <= now);
        let allowed = match (row.seen.state, reason) {
            (DatabaseState::Ready | DatabaseState::Spare, _) => true,
            (DatabaseState::Kept, RetireReason::KeepExpired) => keep_expired,
            (DatabaseState::Kept, RetireReason::PoolDropped) => dropping.contains(&row.seen.pool),
            (DatabaseState::Kept, RetireReason::Invalid) => true,
            _ => false,
        };
        if !allowed {
            return Err(stale(format!("the database is {}", row.seen.state.as_str())));
        }
        row.seen.state = DatabaseState::Retiring;
        row.seen.keep_until = None;
        row.seen.reason = Some(reason.to_string());
        settle(row);
        self.free_reservation(database);
        Ok(())
    }

    fn new_databases(&mut self, template: TemplateId, count: u32) -> Outcome {
        let pool = self.ready_template(template)?.pool;
        for _ in 0..count {
            let number = self.next_number();
            let id = DatabaseId(number);
            let seen = Database {
                id,
                pool: pool.clone(),
                template,
                state: DatabaseState::Creating,
                name: DatabaseName::spare(&pool, number),
                oid: None,
                slot: None,
                keep_until: None,
                keep_lease: None,
                keep_expired: false,
                reason: None,
                attempts: 0,
                due: true,
                last_error: None,
                created_at: self.timestamp(),
                ready_at: None,
            };
            let password = format!("secret-{number}").into();
            self.databases.insert(id, DatabaseRow { seen, password, kept_login: None, retry_at: 0.0 });
        }
        Ok(())
    }

    fn clone_template(&mut self, database: DatabaseId, halfway: &mut dyn FnMut() -> Outcome) -> Outcome {
        let row = self.databases.get(&database).ok_or_else(|| stale("the row no longer exists"))?;
        if row.seen.oid.is_some() || !matches!(row.seen.state, DatabaseState::Creating | DatabaseState::Blocked) {
            return Err(stale("it is already cloned"));
        }
        let (name, password) = (row.seen.name.clone(), row.password.clone());
        let template = self.ready_template(row.seen.template)?;
        let source = template.oid.filter(|&oid| self.server.is_named(oid, template.name.as_str()));
        let source = source.ok_or_else(|| StepError::Failed("3D000: template database does not exist".to_owned()))?;
        let login = FakeLogin { password, can_login: false };
        self.server.logins.insert(login_of(database.0), login);
        let oid = self.server.create(name.as_str(), true, Some(source)).map_err(StepError::Failed)?;
        halfway()?;
        let row = self.row(database)?;
        row.seen.oid = Some(oid);
        row.seen.state = DatabaseState::Spare;
        settle(row);
        Ok(())
    }

    fn drop_database(&mut self, database: DatabaseId, halfway: &mut dyn FnMut() -> Outcome) -> Outcome {
        let row = self.databases.get(&database).ok_or_else(|| stale("the row no longer exists"))?;
        if !matches!(row.seen.state, DatabaseState::Retiring | DatabaseState::Blocked) {
            return Err(stale(format!("the database is {}", row.seen.state.as_str())));
        }
        let oid = row.seen.oid.ok_or_else(|| stale("it was never cloned"))?;
        if let Some(found) = self.server.databases.get(&oid) {
            if found.name != row.seen.name.as_str() || !found.owned {
                return Err(stale("the database with its oid has another name or owner"));
            }
            if row.seen.slot.is_some() && !found.invalid {
                return Err(stale("the database is still in its slot"));
            }
        }
        let mut logins = self.server.databases.get(&oid).map(|found| found.connect.clone()).unwrap_or_default();
        logins.extend(row.kept_login.clone().map(|login| login.user));
        logins.extend(self.logins_of_ended_leases(database));
        self.server.drop(oid);
        halfway()?;
        self.drop_logins_of(database, &logins);
        self.delete_database(database);
        Ok(())
    }

    /// Logins of ended leases whose last database was this one; after a reset their numbers differ from the database's.
    fn logins_of_ended_leases(&self, database: DatabaseId) -> BTreeSet<String> {
        self.leases
            .values()
            .filter(|row| row.seen.database == Some(database) && row.ended.is_some())
            .filter_map(|row| row.seen.credentials.as_ref())
            .map(|credentials| credentials.user.clone())
            .collect()
    }

    fn adopt(&mut self, database: DatabaseId, oid: u32) -> Outcome {
        let name = self.row(database)?.seen.name.clone();
        let owned = self.server.databases.get(&oid).is_some_and(|found| found.owned && found.name == name.as_str());
        let row = self.row(database)?;
        if row.seen.oid.is_some() || !owned {
            return Err(stale("no unrecorded database has its name"));
        }
        row.seen.oid = Some(oid);
        row.seen.state = DatabaseState::Retiring;
        row.seen.reason = Some("its creation was interrupted".to_owned());
        settle(row);
        Ok(())
    }

    fn forget(&mut self, database: DatabaseId, reason: ForgetReason) -> Outcome {
        let row = self.databases.get(&database).ok_or_else(|| stale("the row no longer exists"))?;
        let name = row.seen.name.as_str();
        let found = row.seen.oid.and_then(|oid| self.server.databases.get(&oid));
        let applies = row.seen.state != DatabaseState::Leased
            && match reason {
                ForgetReason::Vanished => row.seen.oid.is_some() && found.is_none(),
                ForgetReason::RenamedExternally => found.is_some_and(|found| found.name != name),
                ForgetReason::NotNeeded => {
                    let unrecorded = self.server.oid_of(name).is_some_and(|oid| self.server.databases[&oid].owned);
                    row.seen.oid.is_none() && !unrecorded
                }
            };
        if !applies {
            return Err(stale("the reason to forget the row no longer applies"));
        }
        let mut logins = self.logins_of_ended_leases(database);
        logins.extend(row.kept_login.clone().map(|login| login.user));
        self.drop_logins_of(database, &logins);
        self.delete_database(database);
        Ok(())
    }
}

/// Clears the failures after a successful step.
fn settle(row: &mut DatabaseRow) {
    row.seen.attempts = 0;
    row.seen.last_error = None;
    row.retry_at = 0.0;
}
