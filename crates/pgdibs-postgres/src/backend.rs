//! [`Backend`] on real Postgres. This file only dispatches.

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
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::{Template, TemplateId};

use crate::scram::digest;
use crate::{requests, steps};

pub use crate::context::PgBackend;

impl PgBackend {
    /// Every pool.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn pools(&self) -> Result<Vec<Pool>, Error> {
        self.request(|| async { requests::pools::all(&mut *self.catalog().acquire().await?).await }).await
    }

    /// Writes a failed attempt at a step into its row, if it has one.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn record_failure(&self, step: &Step, why: &str) -> Result<(), Error> {
        self.within(steps::record(self, step, why)).await
    }
}

impl Backend for PgBackend {
    async fn take_snapshot(&self) -> Result<Snapshot, Error> {
        self.request(|| requests::snapshot::take(self)).await
    }

    async fn execute(&self, steps: &[Step]) -> Vec<Result<(), StepError>> {
        steps::execute(self, steps).await
    }

    async fn collect_garbage(&self) -> Result<(), Error> {
        Self::collect_garbage(self).await
    }

    async fn put_pool(&self, pool: &PoolName, patch: &PoolPatch) -> Result<(Pool, bool), Error> {
        self.request(|| requests::pools::put(self, pool, patch)).await
    }

    async fn drop_pool(&self, pool: &PoolName, force: bool) -> Result<(), Error> {
        self.request(|| requests::pools::mark_dropping(self, pool, force)).await
    }

    async fn put_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: &str,
    ) -> Result<TemplatePut, Error> {
        let token = digest(token);
        self.request(|| requests::templates::put(self, pool, fingerprint, holder, &token, None, None)).await
    }

    async fn build_place(&self, template: TemplateId, token: &str) -> Result<Option<BuildPlace>, Error> {
        let token = digest(token);
        self.request(|| requests::templates::place(self, template, &token)).await
    }

    async fn record_inputs(&self, template: TemplateId, inputs: &Inputs) -> Result<Option<InputChanges>, Error> {
        self.within(requests::inputs::record(self, template, inputs)).await
    }

    async fn renew_build(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        let token = digest(token);
        self.request(|| requests::templates::renew(self, pool, fingerprint, &token)).await
    }

    async fn request_seal(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        let token = digest(token);
        self.request(|| requests::templates::request_seal(self, pool, fingerprint, &token)).await
    }

    async fn abandon_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
        detail: &str,
    ) -> Result<(), Error> {
        let token = digest(token);
        self.request(|| requests::templates::abandon(self, pool, fingerprint, &token, detail)).await
    }

    async fn build_log(&self, template: TemplateId) -> Result<Option<String>, Error> {
        self.within(requests::templates::log(self, template)).await
    }

    async fn drop_template(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<(), Error> {
        self.request(|| requests::templates::mark_retiring(self, pool, fingerprint)).await
    }

    async fn choose_template(&self, pool: &PoolName, run: Option<&str>) -> Result<Fingerprint, Error> {
        self.within(requests::choose_template::choose_template(self, pool, run)).await
    }

    async fn acquire(&self, acquire_requests: &[Acquire], ticket: Option<TicketId>) -> Result<Acquired, Error> {
        self.request(|| requests::acquire::acquire(self, acquire_requests, ticket)).await
    }

    async fn share_login(&self, leases: &[LeaseId]) -> Result<Vec<Lease>, Error> {
        self.request(|| requests::shared::share(self, leases)).await
    }

    async fn ended_leases(&self) -> Result<Vec<Lease>, Error> {
        self.request(|| requests::leases::ended(self)).await
    }

    async fn credentials(&self, database: &str) -> Result<Credentials, Error> {
        self.request(|| requests::shared::credentials(self, database)).await
    }

    async fn take_ticket(
        &self,
        wanted: &TargetTemplate,
        count: u32,
        kind: TicketKind,
        holder: &TicketHolder,
    ) -> Result<TicketId, Error> {
        self.request(|| requests::tickets::take(self, wanted, count, kind, holder)).await
    }

    async fn drop_ticket(&self, ticket: TicketId) -> Result<(), Error> {
        self.request(|| requests::tickets::give_up(self, ticket)).await
    }

    async fn lease(&self, id: LeaseId) -> Result<Lease, Error> {
        self.request(|| requests::leases::find(self, id)).await
    }

    async fn renew(&self, id: LeaseId, ttl_seconds: Option<u64>) -> Result<Lease, Error> {
        self.request(|| requests::leases::renew(self, id, ttl_seconds)).await
    }

    async fn end_lease(&self, id: LeaseId, end: End, reason: &str) -> Result<bool, Error> {
        self.request(|| requests::leases::end(self, id, end, reason)).await
    }

    async fn begin_reset(
        &self,
        id: LeaseId,
        discard: Option<u32>,
        ticket: Option<TicketId>,
    ) -> Result<ResetBegun, Error> {
        self.request(|| requests::leases::begin_reset(self, id, discard, ticket)).await
    }

    async fn keep(&self, id: LeaseId, seconds: u64, reason: &str) -> Result<Kept, Error> {
        self.request(|| requests::kept::keep(self, id, seconds, reason)).await
    }

    async fn drop_kept(&self, database: &str) -> Result<(), Error> {
        self.request(|| requests::kept::give_up(self, database)).await
    }

    async fn announce(&self, announce: &Announce) -> Result<bool, Error> {
        self.request(|| requests::runs::announce(self, announce)).await
    }

    async fn end_run(&self, run: &str) -> Result<u64, Error> {
        self.request(|| requests::runs::end(self, run)).await
    }

    async fn report_run(&self, report: &RunReport) -> Result<(), Error> {
        self.request(|| requests::reports::store(self, report)).await
    }

    async fn reported_runs(&self, pool: Option<&PoolName>) -> Result<Vec<ReportedRun>, Error> {
        self.request(|| requests::reports::list(self, pool)).await
    }
}
