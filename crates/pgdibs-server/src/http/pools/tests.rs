//! Pools: made, changed, shown, dropped.

use serde_json::json;

use crate::http::tests::{Call, TestApi, connect, lease_path};

#[tokio::test]
async fn pool_is_made_changed_shown_and_dropped() {
    let api = TestApi::new();
    let made = api.put("/v1/pools/app", json!({"warm": 2, "max": 5, "roles": ["reporting"], "extensions": ["citext"]}));
    let made = made.await.expect(201).json;
    assert_eq!((&made["warm"], &made["max"], &made["spares"]), (&json!(2), &json!(5), &json!(2)));
    let changed = api.put("/v1/pools/app", json!({"max": 6, "strategy": "wal_log"})).await.expect(200).json;
    assert_eq!((&changed["warm"], &changed["max"]), (&json!(2), &json!(6)));
    assert_eq!((&changed["strategy"], &changed["roles"]), (&json!("wal_log"), &json!(["reporting"])));
    assert_eq!(api.get("/v1/pools/app").await.expect(200).json, changed);
    // Without a body nothing changes.
    assert_eq!(api.send(Call::new("PUT", "/v1/pools/app")).await.expect(200).json, changed);
    assert_eq!(api.get("/v1/pools").await.expect(200).json, json!({"pools": [changed]}));
    let gone = api.delete("/v1/pools/app").await.expect(204);
    assert_eq!(gone.text, "");
    api.until("the pool is gone", |api| api.snapshot().pools.is_empty()).await;
    api.delete("/v1/pools/app").await.problem(404, "pool_not_found");
}

#[tokio::test]
async fn drop_pool_with_force_revokes_leases() {
    let api = TestApi::new();
    api.ready_pool(1, 2, 0).await;
    let lease = api.take(json!({})).await;
    api.delete("/v1/pools/app?force=false").await.problem(409, "pool_in_use");
    api.delete("/v1/pools/app?force=true").await.expect(204);
    let ended = api.get(&lease_path(&lease, "")).await.expect(200).json;
    assert_eq!((&ended["state"], ended.get("password")), (&json!("revoked"), None));
    api.until("its login is dead", |api| connect(api, &lease).is_err()).await;
}
