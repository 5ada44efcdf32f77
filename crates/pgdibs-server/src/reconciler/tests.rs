//! What stays warm while callers change between templates, and over a restart of the daemon; how often a reconciler at rest takes snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgdibs_core::backend::Backend as _;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::lease::{End, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::Acquire;
use pgdibs_testing::fake::FakeBackend;

use super::Reconciler;
use crate::service::wait_queue::WaitQueue;

const HOUR: Duration = Duration::from_secs(3600);

async fn settle(reconciler: &mut Reconciler<FakeBackend>) {
    for _ in 0..30 {
        reconciler.activate().await.unwrap();
        while !reconciler.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// The ready databases of each template.
async fn warm(backend: &FakeBackend) -> BTreeMap<String, usize> {
    let snapshot = backend.take_snapshot().await.unwrap();
    let mut counts = BTreeMap::new();
    for database in snapshot.databases.iter().filter(|database| database.state == DatabaseState::Ready) {
        let fingerprint = snapshot.template(database.template).unwrap().fingerprint.to_string();
        *counts.entry(fingerprint).or_default() += 1;
    }
    counts
}

/// Regression: only the template built last was warm (issue 17, E1).
#[tokio::test]
async fn two_branches_in_alternation_stay_warm_over_a_restart() {
    let backend = Arc::new(FakeBackend::new());
    let start = || Reconciler::new(Arc::clone(&backend), Arc::default(), HOUR, HOUR, Arc::default());
    let mut reconciler = start();
    let pool = PoolName::parse("app").unwrap();
    let patch = PoolPatch { warm: Some(1), max: Some(6), spares: Some(0), ..PoolPatch::default() };
    backend.put_pool(&pool, &patch).await.unwrap();
    for (number, name) in ["main", "branch"].into_iter().enumerate() {
        let fingerprint = Fingerprint::parse(name).unwrap();
        backend.put_template(&pool, &fingerprint, "builder", name).await.unwrap();
        settle(&mut reconciler).await;
        backend.request_seal(&pool, &fingerprint, name).await.unwrap();
        settle(&mut reconciler).await;
        let id = LeaseId::from_u128(1 + number as u128);
        let request = Acquire {
            id,
            pool: pool.clone(),
            fingerprint: Some(fingerprint),
            fingerprint_named: true,
            run: None,
            worker: None,
            alias: "default".to_owned(),
            holder: "test".to_owned(),
            ttl_seconds: 60,
            exact_slot: false,
        };
        backend.acquire(&[request], None).await.unwrap();
        settle(&mut reconciler).await;
        backend.end_lease(id, End::Released, "released").await.unwrap();
        settle(&mut reconciler).await;
    }
    let both = BTreeMap::from([("branch".to_owned(), 1), ("main".to_owned(), 1)]);
    assert_eq!(warm(&backend).await, both);
    let mut restarted = start();
    settle(&mut restarted).await;
    assert_eq!(warm(&backend).await, both, "after a restart");
}

/// Regression: a daemon at rest took a snapshot of everything each second (issue 18, 1.2).
#[tokio::test]
async fn reconciler_at_rest_pauses_until_the_first_deadline() {
    let backend = Arc::new(FakeBackend::new());
    let wait_queue: Arc<WaitQueue> = Arc::default();
    let mut reconciler = Reconciler::new(Arc::clone(&backend), Arc::clone(&wait_queue), HOUR, HOUR, Arc::default());
    let (pool, fingerprint) = (PoolName::parse("app").unwrap(), Fingerprint::parse("v1").unwrap());
    let patch = PoolPatch { warm: Some(2), max: Some(2), spares: Some(1), ..PoolPatch::default() };
    backend.put_pool(&pool, &patch).await.unwrap();
    backend.put_template(&pool, &fingerprint, "builder", "token").await.unwrap();
    settle(&mut reconciler).await;
    backend.request_seal(&pool, &fingerprint, "token").await.unwrap();
    settle(&mut reconciler).await;
    let pause = |reconciler: &Reconciler<FakeBackend>| reconciler.next_activation() - reconciler.began.elapsed();
    assert!(pause(&reconciler) > Duration::from_secs(25), "{:?}", pause(&reconciler));

    let id = LeaseId::from_u128(1);
    let request = Acquire {
        id,
        pool,
        fingerprint: Some(fingerprint),
        fingerprint_named: true,
        run: None,
        worker: None,
        alias: "default".to_owned(),
        holder: "test".to_owned(),
        ttl_seconds: 20,
        exact_slot: false,
    };
    backend.acquire(&[request], None).await.unwrap();
    settle(&mut reconciler).await;
    let until_expiry = pause(&reconciler);
    assert!(until_expiry > Duration::from_secs(15) && until_expiry <= Duration::from_secs(20), "{until_expiry:?}");
    // A renewal puts the expiry off without a snapshot.
    let renewal = wait_queue.renewal_received(id);
    renewal.written(1, 3600);
    reconciler.take_renewals();
    assert!(pause(&reconciler) > until_expiry + Duration::from_secs(4), "{:?}", pause(&reconciler));
}
