//! `GET /metrics`: the gauges and the format.

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
    assert_eq!(page.headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
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
        assert!(declared.contains(name), "{sample} has no type");
        assert!(sample.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{sample} has no number");
    }
    api.stage.send_replace(None);
    let page = api.get("/metrics").await.expect(200);
    assert!(page.text.lines().any(|line| line == "pgdibs_server_reachable 0"), "{}", page.text);
    assert!(!page.text.contains("pgdibs_databases"));
}
