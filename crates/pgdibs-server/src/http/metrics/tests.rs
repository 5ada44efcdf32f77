//! `GET /metrics`: the metrics and the format.

use std::collections::BTreeSet;

use axum::http::header;
use serde_json::json;

use crate::http::tests::TestApi;

#[tokio::test]
async fn metrics_are_gauges_of_one_snapshot() {
    let api = TestApi::new();
    api.ready_pool(2, 8, 1).await;
    api.take(json!({})).await;
    let page = api.get("/metrics").await.expect(200);
    assert_eq!(page.headers[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in [
        "pgdibs_info{version=\"0.1.0\",instance=\"test-instance\"} 1",
        "pgdibs_server_reachable 1",
        "pgdibs_ready 1",
        "pgdibs_uptime_seconds 1.5",
        "pgdibs_databases{pool=\"app\",state=\"leased\"} 1",
        "pgdibs_databases{pool=\"app\",state=\"blocked\"} 0",
        "pgdibs_waiting{pool=\"app\"} 0",
        "pgdibs_pool_max{pool=\"app\"} 8",
    ] {
        assert!(page.text.lines().any(|found| found == line), "{line} is not in\n{}", page.text);
    }
    let declared: BTreeSet<&str> =
        page.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for sample in page.text.lines().filter(|line| !line.starts_with('#')) {
        let name = sample.split(['{', ' ']).next().unwrap();
        let family = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        assert!(declared.contains(family.unwrap_or(name)), "{sample} has no type");
        assert!(sample.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{sample} has no number");
    }
    assert!(page.text.ends_with("\n# EOF\n"), "{}", page.text);
    api.stage.send_replace(None);
    let page = api.get("/metrics").await.expect(200);
    assert!(page.text.lines().any(|line| line == "pgdibs_server_reachable 0"), "{}", page.text);
    assert!(!page.text.contains("pgdibs_databases"));
}

#[tokio::test]
async fn leases_and_requests_are_counted_until_their_pool_is_dropped() {
    let api = TestApi::new();
    api.ready_pool(2, 8, 1).await;
    let first = api.take(json!({"run": "r", "worker": "gw0"})).await;
    let second = api.take(json!({"run": "r", "worker": "gw1"})).await;
    api.take(json!({"run": "other", "worker": "gw0"})).await;
    let path = |lease: &serde_json::Value, what: &str| format!("/v1/leases/{}{what}", lease["id"].as_str().unwrap());
    api.post(&path(&first, "/reset"), json!({})).await.expect(200);
    api.post(&path(&first, "/renew"), json!({})).await.expect(200);
    api.delete(&path(&second, "")).await.expect(204);
    // Once more: it has ended already.
    api.delete(&path(&second, "")).await.expect(204);
    api.delete("/v1/runs/r").await;
    api.get("/nowhere/else").await.expect(404);
    let page = api.get("/metrics").await.expect(200);
    for line in [
        "pgdibs_grants_total{pool=\"app\",kind=\"warm\"} 3",
        "pgdibs_wait_seconds_count{pool=\"app\"} 3",
        "pgdibs_hold_seconds_count{pool=\"app\"} 2",
        "pgdibs_reset_seconds_count{pool=\"app\"} 1",
        "pgdibs_lease_ends_total{reason=\"released\"} 2",
        "pgdibs_late_renewals_total 0",
        "pgdibs_http_requests_total{route=\"/v1/leases/{id}\",method=\"DELETE\",code=\"204\"} 2",
        "pgdibs_http_requests_total{route=\"none\",method=\"GET\",code=\"404\"} 1",
        "pgdibs_templates{pool=\"app\",state=\"ready\"} 1",
    ] {
        assert!(page.text.lines().any(|found| found == line), "{line} is not in\n{}", page.text);
    }
    api.delete("/v1/pools/app?force=true").await.expect(204);
    pgdibs_testing::wait::until_async("the pool is gone", async || {
        let page = api.get("/metrics").await.expect(200);
        if page.text.contains("pool=\"app\"") { Err(page.text) } else { Ok(()) }
    })
    .await;
    let page = api.get("/metrics").await.expect(200);
    assert!(page.text.contains("pgdibs_lease_ends_total{reason=\"revoked\"} 1\n"), "{}", page.text);
}
