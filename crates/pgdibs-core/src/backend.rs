//! The backend: every request and step on the catalog and the server. Postgres and a fake implement it, and one conformance
//! suite tests both.

use crate::error::{Error, StepError};
use crate::inputs::{InputChanges, Inputs};
use crate::lease::{Credentials, End, Lease, LeaseId};
use crate::name::{Fingerprint, PoolName};
use crate::plan::Step;
use crate::pool::{Pool, PoolPatch};
use crate::request::{
    Acquire, Acquired, Announce, BuildPlace, Kept, ReportedRun, ResetBegun, RunReport, TargetTemplate, TemplatePut,
    TicketHolder, TicketId, TicketKind,
};
use crate::snapshot::Snapshot;
use crate::template::{Template, TemplateId};

/// How many reports of runs the catalog keeps of each pool.
pub const REPORTS_KEPT: usize = 200;

/// The catalog and the server together.
///
/// Each request is one transaction. Each step checks the assumptions of the plan again and changes nothing if one no longer holds.
pub trait Backend: Send + Sync {
    /// Takes a snapshot.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn take_snapshot(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send;

    /// Executes steps; the results are in the order of the steps.
    fn execute(&self, steps: &[Step]) -> impl Future<Output = Vec<Result<(), StepError>>> + Send;

    /// Deletes what has outlived its use: ended leases and runs after 24 hours, tickets of daemons that no longer run, and logins
    /// without a row.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn collect_garbage(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Creates a pool or changes its settings; the flag is true if it was created.
    ///
    /// # Errors
    /// Invalid settings; databases with names of the pool that pgdibs did not create.
    fn put_pool(&self, pool: &PoolName, patch: &PoolPatch) -> impl Future<Output = Result<(Pool, bool), Error>> + Send;

    /// Drops a pool: revokes its leases (only with `force`) and retires its templates and databases; the planner deletes its row last.
    ///
    /// # Errors
    /// Unknown pool; live leases without `force`.
    fn drop_pool(&self, pool: &PoolName, force: bool) -> impl Future<Output = Result<(), Error>> + Send;

    /// Finds a template, or makes the caller its builder.
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

    /// The builder's database; `None` until the reconciler has created it.
    ///
    /// # Errors
    /// A stale token.
    fn build_place(
        &self,
        template: TemplateId,
        token: &str,
    ) -> impl Future<Output = Result<Option<BuildPlace>, Error>> + Send;

    /// Records the inputs of a template's fingerprint, unless it has some, and compares them with those of the template that its pool built
    /// last before; returns the difference, if the inputs of that one are known.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn record_inputs(
        &self,
        template: TemplateId,
        inputs: &Inputs,
    ) -> impl Future<Output = Result<Option<InputChanges>, Error>> + Send;

    /// Renews a build.
    ///
    /// # Errors
    /// A stale token; a template that is not building.
    fn renew_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
    ) -> impl Future<Output = Result<Template, Error>> + Send;

    /// Requests the seal of a finished build; the reconciler seals it. A repeated call with the same token has the same result.
    ///
    /// # Errors
    /// A stale token; a template that is not building.
    fn request_seal(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
    ) -> impl Future<Output = Result<Template, Error>> + Send;

    /// Marks a build as failed; the reconciler drops its database.
    ///
    /// # Errors
    /// A stale token.
    fn abandon_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
        detail: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The output of the template's build; `None` if a client built it, or if the build has not ended.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn build_log(&self, template: TemplateId) -> impl Future<Output = Result<Option<String>, Error>> + Send;

    /// Retires a template.
    ///
    /// # Errors
    /// Unknown template; live leases.
    fn drop_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The template for a request that names none: the one that its run announced or leased last, else the pool's current one; a pool
    /// without a ready template answers with the newest that is being built.
    ///
    /// # Errors
    /// Unknown pool; a pool without templates; [`Error::TemplateAmbiguous`], unless a daemon builds the pool's templates.
    fn choose_template(
        &self,
        pool: &PoolName,
        run: Option<&str>,
    ) -> impl Future<Output = Result<Fingerprint, Error>> + Send;

    /// Grants leases, all or none. With a ticket, in ticket order; the grant deletes the ticket.
    ///
    /// # Errors
    /// Unknown pool or template; an ended run; a live lease with the same key and another fingerprint; more than the pool can hold.
    fn acquire(
        &self,
        acquire_requests: &[Acquire],
        ticket: Option<TicketId>,
    ) -> impl Future<Output = Result<Acquired, Error>> + Send;

    /// Gives leases that were granted together one shared login, in addition to the logins of their databases.
    ///
    /// # Errors
    /// An ended lease; [`Error::ServerUnavailable`].
    fn share_login(&self, leases: &[LeaseId]) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// Leases that ended within the last 24 hours, newest first.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn ended_leases(&self) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// The login of a leased or kept database, for inspection.
    ///
    /// # Errors
    /// No leased or kept database of that name.
    fn credentials(&self, database: &str) -> impl Future<Output = Result<Credentials, Error>> + Send;

    /// Appends a request to the queue.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn take_ticket(
        &self,
        wanted: &TargetTemplate,
        count: u32,
        kind: TicketKind,
        holder: &TicketHolder,
    ) -> impl Future<Output = Result<TicketId, Error>> + Send;

    /// Removes a request from the queue.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn drop_ticket(&self, ticket: TicketId) -> impl Future<Output = Result<(), Error>> + Send;

    /// The lease with this id, live or ended within the last 24 hours.
    ///
    /// # Errors
    /// Unknown id.
    fn lease(&self, id: LeaseId) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Renews a lease.
    ///
    /// # Errors
    /// Unknown id; an ended lease.
    fn renew(&self, id: LeaseId, ttl_seconds: Option<u64>) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Ends a lease; an ended one does not change. The flag is true if it was live.
    ///
    /// # Errors
    /// Unknown id.
    fn end_lease(&self, id: LeaseId, end: End, reason: &str) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Reserves a spare for a reset. `leave` is the generation to replace, if the caller names one.
    ///
    /// # Errors
    /// Unknown id; an ended lease.
    fn begin_reset(
        &self,
        id: LeaseId,
        leave: Option<u32>,
        ticket: Option<TicketId>,
    ) -> impl Future<Output = Result<ResetBegun, Error>> + Send;

    /// Keeps the current database of a lease after it leaves its slot.
    ///
    /// # Errors
    /// Unknown id; an ended lease.
    fn keep(&self, id: LeaseId, seconds: u64, reason: &str) -> impl Future<Output = Result<Kept, Error>> + Send;

    /// Retires a kept database before its time.
    ///
    /// # Errors
    /// No kept database of that name.
    fn drop_kept(&self, database: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Records the announced need of a run; true if it had announced none on that pool, or that one had lapsed.
    ///
    /// # Errors
    /// Unknown pool or template; an ended run; more than the pool can hold.
    fn announce(&self, announce: &Announce) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Ends a run and its leases; returns the number of released leases.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn end_run(&self, run: &str) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Keeps what a run says about itself, for each of its pools; of each pool the last [`REPORTS_KEPT`] stay.
    ///
    /// # Errors
    /// Unknown pool; no pool named by a run that has announced and leased nothing.
    fn report_run(&self, report: &RunReport) -> impl Future<Output = Result<(), Error>> + Send;

    /// The reports that are kept, of one pool or of all, the latest first.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    fn reported_runs(&self, pool: Option<&PoolName>) -> impl Future<Output = Result<Vec<ReportedRun>, Error>> + Send;
}
