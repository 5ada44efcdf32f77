//! Runs: announced, ended with all that they hold, and listed with what they report.

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

#[tokio::test]
async fn runs_are_listed_while_they_live_and_after_they_report() {
    let api = TestApi::new();
    api.ready_pool(2, 8, 0).await;
    api.put("/v1/pools/other", json!({"warm": 0})).await.expect(201);
    api.put("/v1/runs/announced", json!({"pool": "app"})).await.expect(200);
    for worker in ["gw0", "gw1"] {
        api.take(json!({"run": "r", "worker": worker, "holder": "ci-7"})).await;
    }
    api.take(json!({})).await;
    let runs = api.get("/v1/runs").await.expect(200).json;
    let shown = |runs: &serde_json::Value| -> Vec<serde_json::Value> {
        let runs = runs["runs"].as_array().unwrap().iter();
        runs.map(|run| json!([run["run"], run["state"], run["held"], run["started_at"].is_string()])).collect()
    };
    assert_eq!(shown(&runs), [json!(["r", "live", 2, true]), json!(["announced", "live", 0, false])]);
    assert_eq!((&runs["runs"][0]["seconds"], &runs["runs"][0]["workers"]), (&json!({}), &json!([])));

    let report = json!({
        "seconds": {"total": 12.5, "start_up": 4, "tests": 8.5}, "holder": "ci-7/controller",
        "workers": [{"worker": "gw0", "peak_rss_mb": 120, "connections": 3}, {"worker": "gw1"}],
    });
    api.post("/v1/runs/r/report", report).await.expect(204);
    let listed = api.get("/v1/runs?pool=app").await.expect(200).json["runs"][0].clone();
    assert_eq!(
        (&listed["state"], &listed["held"], &listed["holder"]),
        (&json!("live"), &json!(2), &json!("ci-7/controller"))
    );
    api.delete("/v1/runs/r").await.expect(200);
    let runs = api.get("/v1/runs?pool=app").await.expect(200).json;
    assert_eq!(shown(&runs), [json!(["announced", "live", 0, false]), json!(["r", "ended", 0, false])]);
    let ended = &runs["runs"][1];
    assert_eq!(ended["seconds"], json!({"total": 12.5, "start_up": 4.0, "tests": 8.5}));
    let workers = json!([
        {"worker": "gw0", "peak_rss_mb": 120, "connections": 3}, {"worker": "gw1", "peak_rss_mb": null, "connections": null},
    ]);
    assert_eq!(ended["workers"], workers);
    assert!(ended["reported_at"].is_string() && ended["pool"] == "app", "{ended}");
    assert_eq!(api.get("/v1/runs?pool=other").await.expect(200).json, json!({"runs": []}));
}

#[tokio::test]
async fn bad_report_is_refused_with_field_and_rule() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({"warm": 0})).await.expect(201);
    let many: serde_json::Map<String, serde_json::Value> =
        (0..41).map(|phase| (format!("p{phase}"), json!(1))).collect();
    for (body, parts) in [
        (json!({"seconds": {"tests": -1}}), ["seconds.tests", "-1 is not a number of seconds from 0 to 10000000"]),
        (json!({"seconds": {"tests": "4"}}), ["seconds.tests", "invalid type"]),
        (json!({"seconds": {"": 1}}), ["seconds", "1 to 200 characters"]),
        (json!({"seconds": many}), ["seconds", "at most 40 entries, not 41"]),
        (json!({"workers": [{"worker": "gw0"}, {"peak_rss_mb": 1}]}), ["workers[1]", "missing field `worker`"]),
        (json!({"workers": [{"worker": "gw0", "connections": 1.5}]}), ["workers[0].connections", "a whole number"]),
        (json!({"fingerprint_inputs": {"1.sql": "a\nb"}}), ["fingerprint_inputs", "control characters"]),
        (json!({"phases": {}}), ["phases", "unknown field"]),
        (json!({"seconds": {}}), ["pool", "must be named"]),
    ] {
        let detail = api.post("/v1/runs/r/report", body.clone()).await.problem(400, "invalid_request");
        assert!(parts.iter().all(|part| detail.contains(part)), "{body}: {detail}");
    }
    api.post("/v1/runs/r/report", json!({"pool": "nowhere"})).await.problem(404, "pool_not_found");
    let long = json!({"pool": "app", "fingerprint_inputs": {"1.sql": "x".repeat(64 * 1024)}});
    api.post("/v1/runs/r/report", long).await.problem(413, "body_too_large");
    assert_eq!(api.get("/v1/runs").await.expect(200).json, json!({"runs": []}));
}
