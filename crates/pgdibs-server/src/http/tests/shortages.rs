//! The sentences about pools without a free database and about a short disk.

use pgdibs_core::snapshot::Limits;
use serde_json::json;

use super::TestApi;
use crate::service::shortages::Shortages;

/// Regression: the status and `/readyz` said ready while every acquire was refused for lack of disk space or of slots (issue 17, E4).
#[tokio::test]
async fn acquire_and_status_say_the_same_sentence() {
    let api = TestApi::new();
    api.ready_pool(1, 1, 0).await;
    assert_eq!(Shortages::of(&api.snapshot()), Shortages::default());
    let lease = api.take(json!({"holder": "ci-7/gw0"})).await;
    assert_eq!(Shortages::of(&api.snapshot()), Shortages::default(), "no caller waits");
    let waiting = api.post("/v1/leases", json!({"pool": "app", "wait_seconds": 10}));
    let watching = async {
        api.until("a caller waits", |api| !api.snapshot().tickets.is_empty()).await;
        let shortages = Shortages::of(&api.snapshot());
        let refused = api.post("/v1/leases", json!({"pool": "app", "wait_seconds": 0})).await;
        let detail = refused.problem(503, "pool_exhausted");
        assert_eq!(shortages.delays, [detail.rsplit_once("; waited ").unwrap().0]);
        let sentence = "no database of pool \"app\" on the Postgres server at 127.0.0.1:5432 is free: leased: app_gw0 by ci-7/gw0;";
        assert!(detail.starts_with(sentence), "{detail}");
        assert_eq!(shortages.stops, Vec::<String>::new());
        api.backend.set_limits(Limits { free_disk_bytes: Some(1), disk_floor_bytes: 2 << 20, ..Limits::default() });
        let refused = api.post("/v1/leases", json!({"pool": "app", "wait_seconds": 0})).await;
        let detail = refused.problem(503, "disk_floor");
        let shortages = Shortages::of(&api.snapshot());
        assert_eq!((shortages.delays, shortages.stops), (vec![detail.clone()], vec![]));
        assert!(detail.contains("the Postgres server at 127.0.0.1:5432"), "{detail}");
        let path = format!("/v1/leases/{}", lease["id"].as_str().unwrap());
        let reset = api.post(&format!("{path}/reset"), json!({"wait_seconds": 0})).await;
        assert!(reset.problem(503, "disk_floor").starts_with(&detail));
        api.delete(&path).await.expect(204);
        api.until("the used database is gone", |api| api.count("retiring") == 0).await;
        let shortages = Shortages::of(&api.snapshot());
        assert_eq!((shortages.delays, shortages.stops), (vec![], vec![detail]), "nothing can be leased");
        api.backend.set_limits(Limits::default());
        api.wait_queue.wake_reconciler();
    };
    let (granted, ()) = tokio::join!(waiting, watching);
    granted.expect(201);
}
