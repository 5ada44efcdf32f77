//! The fake backend: a catalog and a server in memory, with the semantics of the real ones, for thousands of tests per second.
//!
//! One mutex holds all state; each request and each step locks it once, and every future is ready at once. Time is a number
//! that the test advances. Tests can rename, drop and enter databases externally; steps check their assumptions again and
//! return [`StepError::Stale`].

mod catalog;
mod faults;
mod leasing;
mod reports;
mod snapshot;
mod server;
mod steps;
mod template_steps;
mod templates;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catalog::State;
pub use faults::FaultPoint;
use faults::{Faults, Ineffective};
pub use server::{FakeDatabase, Session};

use pgdibs_core::backend::Backend;
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::inputs::{InputChanges, Inputs};
use pgdibs_core::lease::{Credentials, End, Lease, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::plan::Step;
use pgdibs_core::pool::{Pool, PoolPatch};
use pgdibs_core::request::{
    Acquire, Acquired, Announce, BuildPlace, Kept, ReportedRun, ResetBegun, RunReport, TargetTemplate, TemplatePut,
    TicketHolder, TicketId, TicketKind,
};
use pgdibs_core::snapshot::{Limits, Snapshot};
use pgdibs_core::template::{Template, TemplateId};

/// The catalog and the server in memory. Clones share their state.
#[derive(Clone, Default)]
pub struct FakeBackend {
    state: Arc<Mutex<State>>,
    faults: Arc<Mutex<Option<Faults>>>,
    ineffective: Arc<Mutex<Option<Ineffective>>>,
}

impl FakeBackend {
    /// An empty catalog and server at second 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `faults` at each fault point of each step; the step fails with the error that it returns.
    pub fn set_faults(&self, faults: impl FnMut(&Step, FaultPoint) -> Option<StepError> + Send + 'static) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(faults));
    }

    /// Calls `ineffective` before each step; a step for which it returns true reports success and changes nothing.
    pub fn set_ineffective(&self, ineffective: impl FnMut(&Step) -> bool + Send + 'static) {
        *self.ineffective.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ineffective));
    }

    /// Writes a failed attempt at a step into its row, if it has one.
    pub fn record_failure(&self, step: &Step, why: &str) {
        self.state().record_failure(step, why);
    }

    /// Stops injecting faults.
    pub fn clear_faults(&self) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Advances the clock.
    pub fn advance(&self, seconds: f64) {
        self.state().now += seconds;
    }

    /// The current second.
    pub fn now(&self) -> f64 {
        self.state().now
    }

    /// Sets the limits of the server and the machine.
    pub fn set_limits(&self, limits: Limits) {
        self.state().limits = limits;
    }

    /// Logs in.
    ///
    /// # Errors
    /// The SQLSTATE and the text of Postgres's error.
    pub fn connect(&self, credentials: &Credentials, database: &str) -> Result<Session, String> {
        self.state().server.connect(database, &credentials.user, &credentials.password)
    }

    /// Logs in as a superuser, without the CONNECT right.
    ///
    /// # Errors
    /// When the database does not exist or is closed.
    pub fn connect_as_superuser(&self, database: &str) -> Result<Session, String> {
        self.state().server.connect_as_superuser(database)
    }

    /// Opens a database to connections externally; false if it does not exist.
    pub fn open_externally(&self, database: &str) -> bool {
        self.state().server.open_externally(database)
    }

    /// Ends a session; an ended one is ignored.
    pub fn disconnect(&self, session: Session) {
        self.state().server.sessions.remove(&session);
    }

    /// Whether the session still exists.
    pub fn is_connected(&self, session: Session) -> bool {
        self.state().server.sessions.contains_key(&session)
    }

    /// Writes a row into the session's database.
    ///
    /// # Errors
    /// When the session has ended.
    pub fn write(&self, session: Session, row: &str) -> Result<(), String> {
        self.state().server.write(session, row)
    }

    /// Reads every row of the session's database.
    ///
    /// # Errors
    /// When the session has ended.
    pub fn read(&self, session: Session) -> Result<Vec<String>, String> {
        self.state().server.read(session)
    }

    /// `create database` outside pgdibs.
    ///
    /// # Errors
    /// When the name exists.
    pub fn create_externally(&self, name: &str) -> Result<u32, String> {
        let mut state = self.state();
        let oid = state.server.create(name, false, None)?;
        state.server.open_to(oid, &[]);
        Ok(oid)
    }

    /// `drop database … with (force)` outside pgdibs; a missing database is ignored.
    pub fn drop_externally(&self, name: &str) {
        let mut state = self.state();
        if let Some(oid) = state.server.oid_of(name) {
            state.server.drop(oid);
        }
    }

    /// An interrupted `drop database` outside pgdibs, which leaves the database invalid.
    pub fn interrupt_drop_externally(&self, name: &str) {
        let mut state = self.state();
        if let Some(oid) = state.server.oid_of(name) {
            state.server.terminate(oid);
            if let Some(found) = state.server.databases.get_mut(&oid) {
                found.invalid = true;
            }
        }
    }

    /// `alter database … rename` outside pgdibs.
    ///
    /// # Errors
    /// When Postgres would reject it.
    pub fn rename_externally(&self, name: &str, to: &str) -> Result<(), String> {
        let mut state = self.state();
        let oid = state.server.oid_of(name).ok_or_else(|| format!("3D000: database \"{name}\" does not exist"))?;
        state.server.terminate(oid);
        state.server.rename(oid, to)
    }

    /// Ends every session, as a restart of the server does.
    pub fn restart_server(&self) {
        self.state().server.sessions.clear();
    }

    /// The server's databases by oid.
    pub fn databases(&self) -> BTreeMap<u32, FakeDatabase> {
        self.state().server.databases.clone()
    }

    /// The logins, with or without LOGIN.
    pub fn logins(&self) -> Vec<String> {
        self.state().server.logins.keys().cloned().collect()
    }

    /// The owner roles of the pools.
    pub fn owners(&self) -> Vec<String> {
        self.state().server.owners.iter().cloned().collect()
    }

    /// Sessions by login name.
    pub fn sessions_of_login(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for (_, user) in self.state().server.sessions.values() {
            if let Some(user) = user {
                *counts.entry(user.clone()).or_default() += 1;
            }
        }
        counts
    }
}

impl Backend for FakeBackend {
    async fn take_snapshot(&self) -> Result<Snapshot, Error> {
        Ok(self.state().snapshot())
    }

    async fn execute(&self, steps: &[Step]) -> Vec<Result<(), StepError>> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ineffective = self.ineffective.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let mut execute = |step| {
            let is_ineffective = ineffective.as_mut().is_some_and(|ineffective| ineffective(step));
            if is_ineffective { Ok(()) } else { state.execute(step, &mut faults) }
        };
        steps.iter().map(&mut execute).collect()
    }

    /// The fake drops logins with their databases and checks ages when it reads, so there is no garbage.
    async fn collect_garbage(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn put_pool(&self, pool: &PoolName, patch: &PoolPatch) -> Result<(Pool, bool), Error> {
        self.state().put_pool(pool, patch)
    }

    async fn drop_pool(&self, pool: &PoolName, force: bool) -> Result<(), Error> {
        self.state().drop_pool(pool, force)
    }

    async fn put_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: &str,
    ) -> Result<TemplatePut, Error> {
        self.state().put_template(pool, fingerprint, holder, token)
    }

    async fn build_place(&self, template: TemplateId, token: &str) -> Result<Option<BuildPlace>, Error> {
        self.state().build_place(template, token)
    }

    async fn record_inputs(&self, template: TemplateId, inputs: &Inputs) -> Result<Option<InputChanges>, Error> {
        Ok(self.state().record_inputs(template, inputs))
    }

    async fn renew_build(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        self.state().renew_build(pool, fingerprint, token)
    }

    async fn request_seal(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        self.state().request_seal(pool, fingerprint, token)
    }

    async fn abandon_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
        detail: &str,
    ) -> Result<(), Error> {
        self.state().abandon_build(pool, fingerprint, token, detail)
    }

    async fn build_log(&self, template: TemplateId) -> Result<Option<String>, Error> {
        Ok(self.state().templates.get(&template).and_then(|row| row.log.clone()))
    }

    async fn drop_template(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<(), Error> {
        self.state().drop_template(pool, fingerprint)
    }

    async fn choose_template(&self, pool: &PoolName, run: Option<&str>) -> Result<Fingerprint, Error> {
        self.state().choose_template(pool, run)
    }

    async fn acquire(&self, acquire_requests: &[Acquire], ticket: Option<TicketId>) -> Result<Acquired, Error> {
        self.state().acquire(acquire_requests, ticket)
    }

    async fn take_ticket(
        &self,
        target: &TargetTemplate,
        count: u32,
        kind: TicketKind,
        holder: &TicketHolder,
    ) -> Result<TicketId, Error> {
        Ok(self.state().take_ticket(target, count, kind, holder))
    }

    async fn drop_ticket(&self, ticket: TicketId) -> Result<(), Error> {
        self.state().tickets.remove(&ticket);
        Ok(())
    }

    async fn lease(&self, id: LeaseId) -> Result<Lease, Error> {
        self.state().remembered(id).map(|row| State::shown(&row.seen))
    }

    async fn renew(&self, id: LeaseId, ttl_seconds: Option<u64>) -> Result<Lease, Error> {
        self.state().renew(id, ttl_seconds)
    }

    async fn end_lease(&self, id: LeaseId, end: End, reason: &str) -> Result<bool, Error> {
        self.state().end(id, end.state(), reason)
    }

    async fn begin_reset(
        &self,
        id: LeaseId,
        leave: Option<u32>,
        ticket: Option<TicketId>,
    ) -> Result<ResetBegun, Error> {
        self.state().begin_reset(id, leave, ticket)
    }

    async fn keep(&self, id: LeaseId, seconds: u64, reason: &str) -> Result<Kept, Error> {
        self.state().keep(id, seconds, reason)
    }

    async fn share_login(&self, leases: &[LeaseId]) -> Result<Vec<Lease>, Error> {
        self.state().share_login(leases)
    }

    async fn ended_leases(&self) -> Result<Vec<Lease>, Error> {
        Ok(self.state().ended_leases())
    }

    async fn credentials(&self, database: &str) -> Result<Credentials, Error> {
        self.state().credentials(database)
    }

    async fn drop_kept(&self, database: &str) -> Result<(), Error> {
        self.state().drop_kept(database)
    }

    async fn announce(&self, announce: &Announce) -> Result<bool, Error> {
        self.state().announce(announce)
    }

    async fn end_run(&self, run: &str) -> Result<u64, Error> {
        Ok(self.state().end_run(run))
    }

    async fn report_run(&self, report: &RunReport) -> Result<(), Error> {
        self.state().report_run(report)
    }

    async fn reported_runs(&self, pool: Option<&PoolName>) -> Result<Vec<ReportedRun>, Error> {
        Ok(self.state().reported_runs(pool))
    }
}
