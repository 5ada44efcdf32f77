//! What stays warm while callers change between templates, and over a restart of the daemon; how often a reconciler at rest takes snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgdibs_core::backend::Backend as _;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::event::EventKind;
use pgdibs_core::lease::{End, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::Acquire;
use pgdibs_testing::fake::FakeBackend;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Reconciler;
use crate::events::Events;
use crate::service::acquire::LeaseRequest;
use crate::service::wait_queue::WaitQueue;
use crate::service::{NoSources, Service};

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

/// A service and a reconciler on one bus, with the template `v1` of pool `app` that has one slot and no spare.
async fn one_slot(events: &Arc<Events>) -> (Service<FakeBackend>, CancellationToken) {
    let backend = Arc::new(FakeBackend::new());
    let (wait_queue, stopping): (Arc<WaitQueue>, _) = (Arc::default(), CancellationToken::new());
    let reconciler = Reconciler::new(Arc::clone(&backend), Arc::clone(&wait_queue), HOUR, HOUR, Arc::default());
    let mut reader = events.reader();
    tokio::spawn(reconciler.with_events(Arc::clone(events)).run(stopping.clone()));
    wait_queue.wake_reconciler();
    // It leads, and has seen that there is no pool.
    reader.wait().await;
    let sources = Arc::new(NoSources);
    let tasks = TaskTracker::new();
    let service = Service::new(backend, wait_queue, sources, BTreeMap::new(), 10, stopping.clone(), tasks);
    let service = service.with_events(Arc::clone(events));
    let pool = PoolName::parse("app").unwrap();
    let patch = PoolPatch { warm: Some(1), max: Some(1), spares: Some(0), ..PoolPatch::default() };
    service.put_pool(&pool, &patch).await.unwrap();
    let fingerprint = Fingerprint::parse("v1").unwrap();
    service.put_template(&pool, &fingerprint, "builder", &"token".into(), &BTreeMap::new(), HOUR).await.unwrap();
    service.seal(&pool, &fingerprint, "token").await.unwrap();
    while !service.snapshot().await.unwrap().databases.iter().any(|database| database.state == DatabaseState::Ready) {
        tokio::task::yield_now().await;
    }
    (service, stopping)
}

fn request(number: u128) -> LeaseRequest {
    LeaseRequest {
        id: LeaseId::from_u128(number),
        pool: PoolName::parse("app").unwrap(),
        fingerprint: None,
        run: Some("r".to_owned()),
        worker: Some(format!("gw{number}")),
        alias: "default".to_owned(),
        holder: "ci".to_owned(),
        ttl_seconds: 60,
        exact_slot: false,
        fresh: false,
    }
}

#[tokio::test]
async fn events_of_one_cycle_come_in_order() {
    let events = Arc::new(Events::of(7));
    let (service, stopping) = one_slot(&events).await;
    let first = service.acquire(vec![request(1)], HOUR, false).await.unwrap().leases.remove(0);
    let mut reader = events.reader();
    let requests = vec![request(2)];
    let (second, ()) = tokio::join!(service.acquire(requests, HOUR, false), async {
        reader.wait().await;
        service.release(first.id).await.unwrap();
    });
    let second = second.unwrap().leases.remove(0);
    service.end_run("r").await.unwrap();
    let kept = events.kept();
    let mut found: Vec<_> = kept.iter().filter_map(|record| record.event()).collect();
    let of_start = found.iter().map(|event| event.kind).take(4).collect::<Vec<_>>();
    let clone = EventKind::DatabaseCloned;
    assert_eq!(of_start, [EventKind::LeadershipChanged, EventKind::SettingChanged, EventKind::TemplateBuilt, clone]);
    assert_eq!(found[1].reason.as_deref(), Some("the pool was made: warm = 1, max = 1, spares = 0"));
    assert_eq!((found[2].template.as_deref(), found[2].holder.as_deref()), (Some("v1"), Some("builder")));
    assert!(found[2].database.as_deref().is_some_and(|name| name.starts_with("app_template_")), "{:?}", found[2]);
    // The second database is made beside the drop of the first.
    found.retain(|event| event.kind != EventKind::DatabaseDropped);
    let cycle: Vec<_> = found[4..].iter().map(|event| (event.kind, event.lease.map(|id| id.as_u128()))).collect();
    let expected = [
        (EventKind::LeaseGranted, Some(1)),
        (EventKind::WaitBegun, None),
        (EventKind::LeaseReleased, Some(1)),
        (clone, None),
        (EventKind::WaitEnded, None),
        (EventKind::LeaseGranted, Some(2)),
        (EventKind::LeaseReleased, Some(2)),
        (EventKind::RunEnded, None),
    ];
    assert_eq!(cycle, expected);
    let dropped = |record: &Arc<crate::events::Record>| {
        record.event().is_some_and(|event| event.kind == EventKind::DatabaseDropped && event.seconds.is_some())
    };
    let released =
        kept.iter().position(|record| record.event().is_some_and(|event| event.kind == EventKind::LeaseReleased));
    assert!(kept.iter().position(dropped) > released, "{kept:#?}");
    for (event, worker) in [(found[5], "gw2"), (found[6], "gw1"), (found[8], "gw2")] {
        assert_eq!((event.worker.as_deref(), event.holder.as_deref()), (Some(worker), Some("ci")), "{event:?}");
    }
    assert!(found[8].seconds > Some(0.0) && found[8].reason.as_deref() == Some("granted"), "{:?}", found[8]);
    assert_eq!(found[9].database.as_deref(), Some(second.database_name.as_str()));
    stopping.cancel();
}

#[tokio::test]
async fn late_renewal_reset_keep_and_changed_setting_are_events() {
    let events = Arc::new(Events::of(7));
    let (service, stopping) = one_slot(&events).await;
    let pool = PoolName::parse("app").unwrap();
    let patch = PoolPatch { spares: Some(1), ..PoolPatch::default() };
    service.put_pool(&pool, &patch).await.unwrap();
    service.put_pool(&pool, &patch).await.unwrap();
    let lease = service.acquire(vec![request(1)], HOUR, false).await.unwrap().leases.remove(0);
    service.renew(lease.id, Some(0)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    service.renew(lease.id, Some(60)).await.unwrap();
    service.reset(lease.id, None, HOUR).await.unwrap();
    service.keep(lease.id, 60, "test_x failed").await.unwrap();
    let kept = events.kept();
    let of =
        |kind| kept.iter().filter_map(|record| record.event()).filter(|event| event.kind == kind).collect::<Vec<_>>();
    let [late] = of(EventKind::LeaseRenewedLate)[..] else { panic!("{kept:#?}") };
    assert!(late.seconds >= Some(0.005) && late.worker.as_deref() == Some("gw1"), "{late:?}");
    let [reset] = of(EventKind::LeaseReset)[..] else { panic!("{kept:#?}") };
    assert_eq!((reset.lease, reset.database.as_deref()), (Some(lease.id), Some("app_gw0")));
    let [keep] = of(EventKind::LeaseKept)[..] else { panic!("{kept:#?}") };
    assert_eq!((keep.reason.as_deref(), keep.seconds), (Some("test_x failed"), Some(60.0)));
    assert!(keep.database.as_deref().is_some_and(|name| name.starts_with("app_kept_")), "{keep:?}");
    let changes: Vec<_> =
        of(EventKind::SettingChanged).into_iter().filter_map(|event| event.reason.as_deref()).collect();
    assert_eq!(changes[1..], ["spares = 1"], "a repeated PUT is no change");
    stopping.cancel();
}
