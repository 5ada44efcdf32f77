//! A step of any kind that reports success and changes nothing is tried a bounded number of times.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::lease::{End, Lease, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::plan::Step;
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::{Acquire, Acquired};
use pgdibs_core::snapshot::Snapshot;
use pgdibs_testing::fake::{FakeBackend, FaultPoint};

use super::super::Reconciler;
use super::super::backend::LeaderBackend;

impl LeaderBackend for FakeBackend {
    async fn acquire_leadership(&self) -> Result<bool, Error> {
        Ok(true)
    }

    async fn notify(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn take_snapshot_as_leader(&self) -> Result<Snapshot, Error> {
        self.take_snapshot().await
    }

    async fn sessions(&self, _: &[&Lease]) -> Result<BTreeMap<LeaseId, u32>, Error> {
        Ok(BTreeMap::new())
    }

    async fn orphans(&self) -> Result<Option<Vec<u32>>, Error> {
        Ok(None)
    }

    async fn move_times(&self, _: i64) -> Result<(), Error> {
        Ok(())
    }

    async fn drop_blockers(&self) -> Result<std::collections::BTreeSet<String>, Error> {
        Ok(std::collections::BTreeSet::new())
    }

    async fn record_failure(&self, step: &Step, why: &str) -> Result<(), Error> {
        Self::record_failure(self, step, why);
        Ok(())
    }
}

/// Every kind of step; `kind` has to name one that is added.
const KINDS: [&str; 18] = [
    "EndLease",
    "Reset",
    "Return",
    "Fence",
    "Fill",
    "Move",
    "Retire",
    "NewDatabases",
    "Clone",
    "Drop",
    "Adopt",
    "Forget",
    "CreateBuild",
    "Seal",
    "FailBuild",
    "RetireTemplate",
    "DropTemplate",
    "ForgetPool",
];

fn kind(step: &Step) -> &'static str {
    match step {
        Step::EndLease { .. } => "EndLease",
        Step::Reset { .. } => "Reset",
        Step::Return { .. } => "Return",
        Step::Fence { .. } => "Fence",
        Step::Fill { .. } => "Fill",
        Step::Move { .. } => "Move",
        Step::Retire { .. } => "Retire",
        Step::NewDatabases { .. } => "NewDatabases",
        Step::Clone { .. } => "Clone",
        Step::Drop { .. } => "Drop",
        Step::Adopt { .. } => "Adopt",
        Step::Forget { .. } => "Forget",
        Step::CreateBuild { .. } => "CreateBuild",
        Step::Seal { .. } => "Seal",
        Step::FailBuild { .. } => "FailBuild",
        Step::RetireTemplate { .. } => "RetireTemplate",
        Step::DropTemplate { .. } => "DropTemplate",
        Step::ForgetPool { .. } => "ForgetPool",
    }
}

/// Activations after each request: without a delay a step without effect runs in each of them.
const ACTIVATIONS: u64 = 30;

/// A daemon on the fake backend, and requests that lead to every kind of step. A request whose preconditions are missing, because a step
/// had no effect, is refused; that is ignored.
struct Life {
    backend: Arc<FakeBackend>,
    reconciler: Reconciler<FakeBackend>,
    pool: PoolName,
}

impl Life {
    fn new() -> Self {
        let backend = Arc::new(FakeBackend::new());
        let hour = Duration::from_secs(3600);
        let reconciler =
            Reconciler::new(Arc::clone(&backend), Arc::default(), hour, Duration::from_millis(1), Arc::default());
        Self { backend, reconciler, pool: PoolName::parse("app").unwrap() }
    }

    async fn reconcile(&mut self) {
        for _ in 0..ACTIVATIONS {
            self.reconciler.activate().await.unwrap();
            while !self.reconciler.tasks.is_empty() {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn put_pool(&mut self, warm: u32) {
        self.put(warm, 1).await;
    }

    async fn put(&mut self, warm: u32, spares: u32) {
        let patch = PoolPatch { warm: Some(warm), max: Some(3), spares: Some(spares), ..PoolPatch::default() };
        self.backend.put_pool(&self.pool, &patch).await.ok();
        self.reconcile().await;
    }

    async fn put_template(&mut self, fingerprint: &str) -> Fingerprint {
        let fingerprint = Fingerprint::parse(fingerprint).unwrap();
        self.backend.put_template(&self.pool, &fingerprint, "builder", "token").await.ok();
        self.reconcile().await;
        fingerprint
    }

    async fn acquire(&self, id: u128, fingerprint: &Fingerprint) -> Option<Lease> {
        let request = Acquire {
            id: LeaseId::from_u128(id),
            pool: self.pool.clone(),
            fingerprint: Some(fingerprint.clone()),
            fingerprint_named: true,
            run: None,
            worker: None,
            alias: "default".to_owned(),
            holder: "test".to_owned(),
            exact_slot: false,
            ttl_seconds: 3600,
        };
        match self.backend.acquire(&[request], None).await {
            Ok(Acquired::Granted(mut leases)) => leases.pop(),
            _ => None,
        }
    }

    async fn release(&mut self, lease: Option<Lease>) {
        if let Some(lease) = lease {
            self.backend.end_lease(lease.id, End::Released, "released").await.ok();
        }
        self.reconcile().await;
    }

    async fn advance(&mut self, seconds: f64) {
        self.backend.advance(seconds);
        self.reconcile().await;
    }

    async fn live(&mut self) {
        self.put_pool(2).await;
        let fingerprint = self.put_template("one").await;
        self.backend.request_seal(&self.pool, &fingerprint, "token").await.ok();
        self.reconcile().await;
        let lease = self.acquire(1, &fingerprint).await;
        if let Some(lease) = &lease {
            self.backend.begin_reset(lease.id, None, None).await.ok();
        }
        self.reconcile().await;
        self.release(lease).await;
        // A return that fails once: a separate step fences the database.
        self.backend.set_faults(|step, point| {
            let fails = matches!(step, Step::Return { .. }) && point == FaultPoint::Before;
            fails.then(|| StepError::Failed("a session does not end".to_owned()))
        });
        let lease = self.acquire(2, &fingerprint).await;
        self.release(lease).await;
        self.backend.clear_faults();
        self.advance(3.0).await;
        self.put_pool(1).await;
        // Slot 0 becomes empty without a spare, and the ready database of slot 1 moves there.
        self.put(1, 0).await;
        let (first, second) = (self.acquire(10, &fingerprint).await, self.acquire(11, &fingerprint).await);
        self.reconcile().await;
        self.release(first).await;
        self.release(second).await;
        self.put_pool(1).await;
        let snapshot = self.backend.take_snapshot().await.unwrap();
        if let Some(ready) = snapshot.databases.iter().find(|d| d.state == DatabaseState::Ready) {
            self.backend.drop_externally(ready.name.as_str());
        }
        self.reconcile().await;
        if let Some(lease) = self.acquire(3, &fingerprint).await {
            self.backend.drop_externally(&lease.database_name);
        }
        self.reconcile().await;
        // A daemon that dies after `create database`.
        self.backend.set_faults(|step, point| {
            let dies = matches!(step, Step::Clone { .. }) && point == FaultPoint::Halfway;
            dies.then(|| StepError::Unavailable("the daemon died".to_owned()))
        });
        self.put_pool(3).await;
        self.backend.clear_faults();
        self.reconcile().await;
        self.put_template("two").await;
        self.advance(120.0).await;
        let snapshot = self.backend.take_snapshot().await.unwrap();
        if let Some(template) = snapshot.templates.iter().find(|t| t.oid.is_some()) {
            self.backend.drop_externally(template.name.as_str());
        }
        self.reconcile().await;
        self.backend.drop_pool(&self.pool, true).await.ok();
        self.reconcile().await;
        self.advance(61.0).await;
    }
}

#[tokio::test]
async fn step_of_any_kind_without_effect_is_delayed() {
    for ineffective in KINDS {
        let started = Instant::now();
        let executed: Arc<Mutex<HashMap<Step, u64>>> = Arc::default();
        let mut life = Life::new();
        let count = Arc::clone(&executed);
        life.backend.set_ineffective(move |step| {
            let matches = kind(step) == ineffective;
            if matches {
                *count.lock().entry(step.clone()).or_default() += 1;
            }
            matches
        });
        life.live().await;
        let executed = executed.lock().clone();
        assert!(!executed.is_empty(), "no {ineffective} was planned");
        // The clock of the backend advances three times, and what waits for a retry in its row is due then; the watch uses real time.
        let most = 6 + started.elapsed().as_secs();
        for (step, count) in executed {
            assert!(count <= most, "{step:?} was executed {count} times");
        }
        let report = life.reconciler.report.lock().clone();
        let shown = |error: &Option<String>| error.as_ref().is_some_and(|error| error.contains("had no effect"));
        assert!(
            report.last_steps.iter().any(|report| report.step.starts_with(ineffective) && shown(&report.error))
                || report.last_steps.len() >= 50,
            "the report lists no failed {ineffective}"
        );
    }
}

#[tokio::test]
async fn steps_with_effect_are_not_delayed() {
    let mut life = Life::new();
    life.live().await;
    let snapshot = life.backend.take_snapshot().await.unwrap();
    assert!(
        snapshot.pools.is_empty() && snapshot.databases.is_empty() && snapshot.templates.is_empty(),
        "{snapshot:#?}"
    );
    let report = life.reconciler.report.lock().clone();
    let delayed = report.last_steps.iter().filter_map(|step| step.error.as_deref());
    assert_eq!(delayed.filter(|error| error.contains("had no effect")).collect::<Vec<_>>(), Vec::<&str>::new());
}
