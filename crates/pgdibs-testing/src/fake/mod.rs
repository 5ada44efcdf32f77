//! A fake world: catalog and server in memory, with the semantics the real ones promise, for tests that run thousands a second.
//!
//! Everything stands behind one mutex, each request and each step is one turn of it, and every future is ready at once.
//! Time is a number that the test moves. Databases have oids and names of their own, so that hands other than ours can
//! rename, drop and enter them; steps check again and answer [`StepError::Stale`].

mod catalog;
mod faults;
mod leasing;
mod look;
mod server;
mod steps;
mod template_steps;
mod templates;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catalog::State;
use faults::Faults;
pub use faults::Point;
pub use server::{FakeDatabase, Session};

use pgdibs_core::backend::Backend;
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::lease::{Credentials, End, Lease, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::plan::Step;
use pgdibs_core::pool::{Pool, PoolPatch};
use pgdibs_core::request::{
    Acquire, Acquired, Announce, BuildPlace, Kept, ResetBegun, TemplatePut, TicketId, TicketKind, Wanted,
};
use pgdibs_core::snapshot::{Limits, Snapshot};
use pgdibs_core::template::{Template, TemplateId};

/// The catalog and the server in memory. A clone of it is the same world seen by somebody else.
#[derive(Clone, Default)]
pub struct FakeBackend {
    state: Arc<Mutex<State>>,
    faults: Arc<Mutex<Option<Faults>>>,
}

impl FakeBackend {
    /// An empty world at second 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `faults` decide at each point of each step whether it fails there.
    pub fn set_faults(&self, faults: impl FnMut(&Step, Point) -> Option<StepError> + Send + 'static) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(faults));
    }

    /// Everything works again.
    pub fn clear_faults(&self) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets time pass.
    pub fn advance(&self, seconds: f64) {
        self.state().now += seconds;
    }

    /// The present second.
    pub fn now(&self) -> f64 {
        self.state().now
    }

    /// Sets what the server and the machine allow.
    pub fn set_limits(&self, limits: Limits) {
        self.state().limits = limits;
    }

    /// Logs in.
    ///
    /// # Errors
    /// SQLSTATE and text, as Postgres would refuse it.
    pub fn connect(&self, credentials: &Credentials, database: &str) -> Result<Session, String> {
        self.state().server.connect(database, &credentials.user, &credentials.password)
    }

    /// Logs in as a superuser, who needs no right.
    ///
    /// # Errors
    /// When the database does not exist or is closed.
    pub fn connect_as_superuser(&self, database: &str) -> Result<Session, String> {
        self.state().server.connect_as_superuser(database)
    }

    /// Somebody else opens a database to connections; false when there is none of that name.
    pub fn open_by_hand(&self, database: &str) -> bool {
        self.state().server.open_by_hand(database)
    }

    /// Leaves; of a session that was ended: nothing.
    pub fn disconnect(&self, session: Session) {
        self.state().server.sessions.remove(&session);
    }

    /// Whether the session still lives.
    pub fn is_connected(&self, session: Session) -> bool {
        self.state().server.sessions.contains_key(&session)
    }

    /// Writes a mark into the session's database.
    ///
    /// # Errors
    /// When the session was ended.
    pub fn write(&self, session: Session, mark: &str) -> Result<(), String> {
        self.state().server.write(session, mark)
    }

    /// Reads every mark in the session's database.
    ///
    /// # Errors
    /// When the session was ended.
    pub fn read(&self, session: Session) -> Result<Vec<String>, String> {
        self.state().server.read(session)
    }

    /// `create database` by somebody else.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn create_by_hand(&self, name: &str) -> Result<u32, String> {
        let mut state = self.state();
        let oid = state.server.create(name, false, None)?;
        state.server.open_to(oid, &[]);
        Ok(oid)
    }

    /// `drop database … with (force)` by somebody else; of a name that is not there: nothing.
    pub fn drop_by_hand(&self, name: &str) {
        let mut state = self.state();
        if let Some(oid) = state.server.oid_of(name) {
            state.server.drop(oid);
        }
    }

    /// `drop database` by somebody else, interrupted in the middle.
    pub fn interrupt_a_drop_by_hand(&self, name: &str) {
        let mut state = self.state();
        if let Some(oid) = state.server.oid_of(name) {
            state.server.terminate(oid);
            if let Some(found) = state.server.databases.get_mut(&oid) {
                found.invalid = true;
            }
        }
    }

    /// `alter database … rename` by somebody else.
    ///
    /// # Errors
    /// When Postgres would refuse it.
    pub fn rename_by_hand(&self, name: &str, to: &str) -> Result<(), String> {
        let mut state = self.state();
        let oid = state.server.oid_of(name).ok_or_else(|| format!("3D000: database \"{name}\" does not exist"))?;
        state.server.terminate(oid);
        state.server.rename(oid, to)
    }

    /// Ends every session, as a restart of the server does.
    pub fn restart_server(&self) {
        self.state().server.sessions.clear();
    }

    /// What is on the server, by oid.
    pub fn databases(&self) -> std::collections::BTreeMap<u32, FakeDatabase> {
        self.state().server.databases.clone()
    }

    /// The roles that can or could log in.
    pub fn logins(&self) -> Vec<String> {
        self.state().server.logins.keys().cloned().collect()
    }

    /// The roles that own what is in templates.
    pub fn owners(&self) -> Vec<String> {
        self.state().server.owners.iter().cloned().collect()
    }

    /// Sessions by login name.
    pub fn sessions_of_login(&self) -> std::collections::BTreeMap<String, u32> {
        let mut counts = std::collections::BTreeMap::new();
        for (_, user) in self.state().server.sessions.values() {
            if let Some(user) = user {
                *counts.entry(user.clone()).or_default() += 1;
            }
        }
        counts
    }
}

impl Backend for FakeBackend {
    async fn gather(&self) -> Result<Snapshot, Error> {
        Ok(self.state().look())
    }

    async fn execute(&self, steps: &[Step]) -> Vec<Result<(), StepError>> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        steps.iter().map(|step| state.execute(step, &mut faults)).collect()
    }

    /// Nothing to do: the fake drops logins with their databases, and compares ages where it reads.
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

    async fn drop_template(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<(), Error> {
        self.state().drop_template(pool, fingerprint)
    }

    async fn acquire(&self, acquire_requests: &[Acquire], ticket: Option<TicketId>) -> Result<Acquired, Error> {
        self.state().acquire(acquire_requests, ticket)
    }

    async fn take_ticket(&self, wanted: &Wanted, count: u32, kind: TicketKind) -> Result<TicketId, Error> {
        Ok(self.state().take_ticket(wanted, count, kind))
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

    async fn announce(&self, announce: &Announce) -> Result<(), Error> {
        self.state().announce(announce)
    }

    async fn end_run(&self, run: &str) -> Result<u64, Error> {
        Ok(self.state().end_run(run))
    }
}
