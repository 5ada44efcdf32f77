//! The world: what the daemon asks of the catalog and the server. The fake and real Postgres both stand behind it, and one
//! conformance suite holds for both.

use crate::error::{Error, StepError};
use crate::lease::{Credentials, End, Lease, LeaseId};
use crate::name::{Fingerprint, PoolName};
use crate::plan::Step;
use crate::pool::{Pool, PoolPatch};
use crate::request::{
    Acquire, Acquired, Announce, BuildPlace, Kept, ResetBegun, TemplatePut, TicketId, TicketKind, Wanted,
};
use crate::snapshot::Snapshot;
use crate::template::{Template, TemplateId};

/// The catalog and the server together.
///
/// Each request is one transaction; each step re-checks what the plan assumed and changes nothing when that no longer holds.
pub trait Backend: Send + Sync {
    /// Looks at everything.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn gather(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send;

    /// Carries out steps; the answers are in the order of the steps.
    fn execute(&self, steps: &[Step]) -> impl Future<Output = Vec<Result<(), StepError>>> + Send;

    /// Housekeeping that no plan needs, from time to time: forgets what is remembered for a day only, tickets of daemons that
    /// are gone, and logins that no row names.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn collect_garbage(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes a pool or changes its settings; the flag says whether it was made.
    ///
    /// # Errors
    /// Invalid settings; databases of others under the pool's names.
    fn put_pool(&self, pool: &PoolName, patch: &PoolPatch) -> impl Future<Output = Result<(Pool, bool), Error>> + Send;

    /// Drops a pool: its leases are revoked (only with `force`), its templates and databases retire, its row goes last.
    ///
    /// # Errors
    /// Unknown pool; live leases without `force`.
    fn drop_pool(&self, pool: &PoolName, force: bool) -> impl Future<Output = Result<(), Error>> + Send;

    /// "I need this template": finds it, or makes the caller its builder.
    ///
    /// # Errors
    /// Unknown pool.
    fn put_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: &str,
    ) -> impl Future<Output = Result<TemplatePut, Error>> + Send;

    /// Where the builder works, once the reconciler has created that database; `None` until then.
    ///
    /// # Errors
    /// A token that is stale.
    fn build_place(
        &self,
        template: TemplateId,
        token: &str,
    ) -> impl Future<Output = Result<Option<BuildPlace>, Error>> + Send;

    /// A sign of life of the builder.
    ///
    /// # Errors
    /// A token that is stale, a template that is not building.
    fn renew_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
    ) -> impl Future<Output = Result<Template, Error>> + Send;

    /// The builder is done; the reconciler seals. Repeated with the same token: the same answer.
    ///
    /// # Errors
    /// A token that is stale, a template that is not building.
    fn request_seal(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
    ) -> impl Future<Output = Result<Template, Error>> + Send;

    /// The builder gives up; the failed build is dropped.
    ///
    /// # Errors
    /// A token that is stale.
    fn abandon_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
        detail: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Retires a template by name.
    ///
    /// # Errors
    /// Unknown template; live leases.
    fn drop_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes leases: all of them or none. With a ticket, in the order of tickets; a grant takes the ticket away.
    ///
    /// # Errors
    /// Unknown pool or template, an ended run, a key held with another fingerprint, more than can ever fit.
    fn acquire(
        &self,
        acquire_requests: &[Acquire],
        ticket: Option<TicketId>,
    ) -> impl Future<Output = Result<Acquired, Error>> + Send;

    /// Gives leases that were granted together one login that is valid for all of them, beside the ones of their databases.
    ///
    /// # Errors
    /// A lease that is over; [`Error::ServerUnavailable`].
    fn share_login(&self, leases: &[LeaseId]) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// Leases that ended within the last 24 hours, newest first.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn ended_leases(&self) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// The login of a leased or kept database, for looking into it.
    ///
    /// # Errors
    /// No leased or kept database of that name.
    fn credentials(&self, database: &str) -> impl Future<Output = Result<Credentials, Error>> + Send;

    /// Takes a place in the queue.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn take_ticket(
        &self,
        wanted: &Wanted,
        count: u32,
        kind: TicketKind,
    ) -> impl Future<Output = Result<TicketId, Error>> + Send;

    /// Gives a place up, or marks it served.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn drop_ticket(&self, ticket: TicketId) -> impl Future<Output = Result<(), Error>> + Send;

    /// The lease with this id, live or remembered.
    ///
    /// # Errors
    /// Unknown id.
    fn lease(&self, id: LeaseId) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Renews a lease.
    ///
    /// # Errors
    /// Unknown id; a lease that is over.
    fn renew(&self, id: LeaseId, ttl_seconds: Option<u64>) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Ends a lease; of one that is over: no change, no error. The flag says whether it was live.
    ///
    /// # Errors
    /// Unknown id.
    fn end_lease(&self, id: LeaseId, end: End, reason: &str) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Reserves a spare for a reset. `leave` is the generation to leave behind, if the caller named one.
    ///
    /// # Errors
    /// Unknown id; a lease that is over.
    fn begin_reset(
        &self,
        id: LeaseId,
        leave: Option<u32>,
        ticket: Option<TicketId>,
    ) -> impl Future<Output = Result<ResetBegun, Error>> + Send;

    /// Promises that the database behind a lease is kept when it leaves its slot.
    ///
    /// # Errors
    /// Unknown id; a lease that is over.
    fn keep(&self, id: LeaseId, seconds: u64, reason: &str) -> impl Future<Output = Result<Kept, Error>> + Send;

    /// Gives a kept database up early.
    ///
    /// # Errors
    /// No kept database of that name.
    fn drop_kept(&self, database: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says what a run will need.
    ///
    /// # Errors
    /// Unknown pool or template; an ended run; more than the pool can ever hold.
    fn announce(&self, announce: &Announce) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ends a run and everything it holds; returns the number of leases released.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn end_run(&self, run: &str) -> impl Future<Output = Result<u64, Error>> + Send;
}
