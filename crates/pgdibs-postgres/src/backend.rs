//! The world as it is: [`Backend`] on real Postgres. This file only says which module does what.

use std::sync::Mutex;
use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::lease::{Credentials, End, Lease, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::plan::Step;
use pgdibs_core::pool::{Pool, PoolPatch};
use pgdibs_core::request::{
    Acquire, Acquired, Announce, BuildPlace, Kept, ResetBegun, TemplatePut, TicketId, TicketKind, Wanted,
};
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::{Template, TemplateId};
use tokio::time::Instant;

use crate::blockers::Watch;
use crate::connect::Connections;
use crate::connection_pool::ANSWER;
use crate::leadership::{Held, Session};
use crate::orphans::Suspects;
use crate::scram::digest;
use crate::{requests, sqlstate, steps};

/// What the daemon's configuration says about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// No clone below this many free bytes on the server's disk.
    pub disk_floor_bytes: u64,
}

/// The catalog and the server, as one daemon sees them.
pub struct PgBackend {
    pub(crate) connections: Connections,
    pub(crate) bounds: Bounds,
    /// The reconciler's own connection, when this daemon reconciles.
    pub(crate) leadership: tokio::sync::Mutex<Option<Held>>,
    /// The session on which leadership was held before, if it may not have ended.
    pub(crate) lost: tokio::sync::Mutex<Option<Session>>,
    /// When the daemons of the server were last counted, and how many they were.
    pub(crate) daemons: tokio::sync::Mutex<Option<(Instant, i64)>>,
    /// The connection on which blockers are looked for.
    pub(crate) watch: tokio::sync::Mutex<Watch>,
    /// Databases that belong to the owner role of a pool.
    pub(crate) handed_over: Mutex<steps::HandedOver>,
    /// Directories that may be orphans; see [`PgBackend::orphans`].
    pub(crate) suspects: tokio::sync::Mutex<Suspects>,
}

impl PgBackend {
    /// A world over open connections.
    #[must_use]
    pub fn new(connections: Connections, bounds: Bounds) -> Self {
        Self {
            connections,
            bounds,
            leadership: tokio::sync::Mutex::new(None),
            lost: tokio::sync::Mutex::new(None),
            daemons: tokio::sync::Mutex::new(None),
            watch: tokio::sync::Mutex::default(),
            handed_over: Mutex::default(),
            suspects: tokio::sync::Mutex::default(),
        }
    }

    /// What the server is and what we may do there.
    #[must_use]
    pub fn facts(&self) -> &crate::rights::ServerFacts {
        &self.connections.facts
    }

    /// Databases of others that had sessions when this daemon came to the server.
    #[must_use]
    pub fn in_use_by_others(&self) -> &[String] {
        &self.connections.in_use_by_others
    }

    /// This daemon's number among the daemons of the server.
    #[must_use]
    pub fn instance(&self) -> i32 {
        self.connections.instance
    }

    /// Most slots that `max_connections` leaves room for, at one session each beside the daemon's own.
    #[must_use]
    pub fn slots_by_connections(&self) -> u32 {
        self.connections.facts.max_connections.saturating_sub(crate::connect::OWN_CONNECTIONS).max(1)
    }

    /// What came of a request, or that nothing came in time. Then it may have been done or not; whoever asks again looks at the
    /// catalog, which knows. The connections are taken for dead and left behind.
    pub(crate) async fn within<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (_, number) = self.connections.catalog.pool();
        let Ok(answer) = tokio::time::timeout(ANSWER, asked).await else {
            self.connections.catalog.discard(number);
            return Err(no_answer(ANSWER));
        };
        answer
    }

    /// Closes every connection; open statements are finished first.
    pub async fn close(&self) {
        self.leadership.lock().await.take();
        self.watch.lock().await.disconnect();
        self.connections.ddl.close().await;
        self.connections.catalog.close().await;
    }
}

/// The server kept silent for too long.
pub(crate) fn no_answer(after: Duration) -> Error {
    Error::ServerUnavailable(format!("it gave no answer within {} s", after.as_secs()))
}

/// Turns an answer of Postgres into one for the caller.
pub(crate) fn answer<T>(result: Result<T, sqlx::Error>) -> Result<T, Error> {
    result.map_err(|error| sqlstate::request_error(&error))
}

impl Backend for PgBackend {
    async fn gather(&self) -> Result<Snapshot, Error> {
        self.within(async { answer(requests::gather::gather(self).await) }).await
    }

    async fn execute(&self, steps: &[Step]) -> Vec<Result<(), StepError>> {
        steps::execute(self, steps).await
    }

    async fn collect_garbage(&self) -> Result<(), Error> {
        Self::collect_garbage(self).await
    }

    async fn put_pool(&self, pool: &PoolName, patch: &PoolPatch) -> Result<(Pool, bool), Error> {
        self.within(requests::pools::put(self, pool, patch)).await
    }

    async fn drop_pool(&self, pool: &PoolName, force: bool) -> Result<(), Error> {
        self.within(requests::pools::mark_dropping(self, pool, force)).await
    }

    async fn put_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: &str,
    ) -> Result<TemplatePut, Error> {
        self.within(requests::templates::put(self, pool, fingerprint, holder, &digest(token), None)).await
    }

    async fn build_place(&self, template: TemplateId, token: &str) -> Result<Option<BuildPlace>, Error> {
        self.within(requests::templates::place(self, template, &digest(token))).await
    }

    async fn renew_build(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        self.within(requests::templates::renew(self, pool, fingerprint, &digest(token))).await
    }

    async fn request_seal(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        self.within(requests::templates::request_seal(self, pool, fingerprint, &digest(token))).await
    }

    async fn abandon_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
        detail: &str,
    ) -> Result<(), Error> {
        self.within(requests::templates::abandon(self, pool, fingerprint, &digest(token), detail)).await
    }

    async fn drop_template(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<(), Error> {
        self.within(requests::templates::mark_retiring(self, pool, fingerprint)).await
    }

    async fn acquire(&self, acquire_requests: &[Acquire], ticket: Option<TicketId>) -> Result<Acquired, Error> {
        self.within(requests::acquire::acquire(self, acquire_requests, ticket)).await
    }

    async fn share_login(&self, leases: &[LeaseId]) -> Result<Vec<Lease>, Error> {
        self.within(requests::shared::share(self, leases)).await
    }

    async fn ended_leases(&self) -> Result<Vec<Lease>, Error> {
        self.within(requests::leases::ended(self)).await
    }

    async fn credentials(&self, database: &str) -> Result<Credentials, Error> {
        self.within(requests::shared::credentials(self, database)).await
    }

    async fn take_ticket(&self, wanted: &Wanted, count: u32, kind: TicketKind) -> Result<TicketId, Error> {
        self.within(async { answer(requests::tickets::take(self, wanted, count, kind).await) }).await
    }

    async fn drop_ticket(&self, ticket: TicketId) -> Result<(), Error> {
        self.within(async { answer(requests::tickets::give_up(self, ticket).await) }).await
    }

    async fn lease(&self, id: LeaseId) -> Result<Lease, Error> {
        self.within(requests::leases::find(self, id)).await
    }

    async fn renew(&self, id: LeaseId, ttl_seconds: Option<u64>) -> Result<Lease, Error> {
        self.within(requests::leases::renew(self, id, ttl_seconds)).await
    }

    async fn end_lease(&self, id: LeaseId, end: End, reason: &str) -> Result<bool, Error> {
        self.within(requests::leases::end(self, id, end, reason)).await
    }

    async fn begin_reset(
        &self,
        id: LeaseId,
        discard: Option<u32>,
        ticket: Option<TicketId>,
    ) -> Result<ResetBegun, Error> {
        self.within(requests::leases::begin_reset(self, id, discard, ticket)).await
    }

    async fn keep(&self, id: LeaseId, seconds: u64, reason: &str) -> Result<Kept, Error> {
        self.within(requests::kept::keep(self, id, seconds, reason)).await
    }

    async fn drop_kept(&self, database: &str) -> Result<(), Error> {
        self.within(requests::kept::give_up(self, database)).await
    }

    async fn announce(&self, announce: &Announce) -> Result<(), Error> {
        self.within(requests::runs::announce(self, announce)).await
    }

    async fn end_run(&self, run: &str) -> Result<u64, Error> {
        self.within(async { answer(requests::runs::end(self, run).await) }).await
    }
}
