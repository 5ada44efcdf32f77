//! Runs: announced, and ended with all that they hold.

use serde_json::json;

use crate::http::tests::TestApi;

#[tokio::test]
async fn announced_run_warms_pool_and_end_releases_leases() {
    let api = TestApi::new();
    api.ready_pool(1, 8, 0).await;
    let announced = api.put("/v1/runs/r", json!({"pool": "app", "workers": 3, "aliases": 2})).await.expect(200);
    assert_eq!(announced.json, json!({"run": "r", "pool": "app", "fingerprint": "v1", "workers": 3, "aliases": 2}));
    api.until("six stand ready", |api| api.count("ready") >= 6).await;
    for worker in 0..4 {
        api.take(json!({"run": "r", "worker": format!("gw{worker}")})).await;
    }
    let other = api.take(json!({"run": "other"})).await;
    assert_eq!(api.delete("/v1/runs/r").await.expect(200).json, json!({"released": 4}));
    assert_eq!(api.delete("/v1/runs/r").await.expect(200).json, json!({"released": 0}));
    assert_eq!(api.delete("/v1/runs/unknown").await.expect(200).json, json!({"released": 0}));
    let live = api.get("/v1/leases").await.expect(200).json;
    assert_eq!(live["leases"].as_array().unwrap().len(), 1);
    assert_eq!(live["leases"][0]["id"], other["id"]);
}
