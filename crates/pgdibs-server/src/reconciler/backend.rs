//! What the reconciler needs of a backend: the one on Postgres, or in tests the fake one.

use std::collections::{BTreeMap, BTreeSet};

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::plan::Step;
use pgdibs_core::snapshot::Snapshot;
use pgdibs_postgres::backend::PgBackend;

/// A backend with what only the leader does. [`PgBackend`] describes each.
pub trait LeaderBackend: Backend {
    fn acquire_leadership(&self) -> impl Future<Output = Result<bool, Error>> + Send;
    fn notify(&self) -> impl Future<Output = Result<(), Error>> + Send;
    fn take_snapshot_as_leader(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send;
    fn sessions(&self, leases: &[&Lease]) -> impl Future<Output = Result<BTreeMap<LeaseId, u32>, Error>> + Send;
    fn orphans(&self) -> impl Future<Output = Result<Option<Vec<u32>>, Error>> + Send;
    fn move_times(&self, microseconds: i64) -> impl Future<Output = Result<(), Error>> + Send;
    fn drop_blockers(&self) -> impl Future<Output = Result<BTreeSet<String>, Error>> + Send;
    fn record_failure(&self, step: &Step, why: &str) -> impl Future<Output = Result<(), Error>> + Send;
}

impl LeaderBackend for PgBackend {
    async fn acquire_leadership(&self) -> Result<bool, Error> {
        Self::acquire_leadership(self).await
    }

    async fn notify(&self) -> Result<(), Error> {
        Self::notify(self).await
    }

    async fn take_snapshot_as_leader(&self) -> Result<Snapshot, Error> {
        Self::take_snapshot_as_leader(self).await
    }

    async fn sessions(&self, leases: &[&Lease]) -> Result<BTreeMap<LeaseId, u32>, Error> {
        Self::sessions(self, leases).await
    }

    async fn orphans(&self) -> Result<Option<Vec<u32>>, Error> {
        Self::orphans(self).await
    }

    async fn move_times(&self, microseconds: i64) -> Result<(), Error> {
        Self::move_times(self, microseconds).await
    }

    async fn drop_blockers(&self) -> Result<BTreeSet<String>, Error> {
        Self::drop_blockers(self).await
    }

    async fn record_failure(&self, step: &Step, why: &str) -> Result<(), Error> {
        Self::record_failure(self, step, why).await
    }
}
