//! Every code of `api/problems.json`, reached over HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pgdibs_api::problem::Code;
use pgdibs_core::backend::Backend;
use pgdibs_core::lease::End;
use pgdibs_core::name::PoolName;
use pgdibs_core::snapshot::Limits;
use serde_json::{Value, json};

use crate::http::Authenticator;
use crate::http::tests::operations::routes;
use crate::http::tests::{Call, TestApi};
use crate::service::{Current, Sources};

struct FailingSource;

impl Sources for FailingSource {
    fn current(&self, _pool: &PoolName) -> Current {
        Current::Unreadable("step 3 of 7 (0003_orders.sql) failed: relation \"users\" does not exist".to_owned())
    }
}

#[test]
fn codes_match_golden_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/problems.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let ours: Vec<Value> = Code::ALL
        .iter()
        .map(|code| {
            json!({"code": code, "status": code.status(), "title": code.title(), "retry_after_seconds": code.retry_after_seconds()})
        })
        .collect();
    assert_eq!(golden["problems"], Value::from(ours.clone()), "api/problems.json must read\n{:#}", Value::from(ours));
}

#[tokio::test]
async fn missing_resource_is_404_that_names_it() {
    let api = TestApi::new();
    let nothing = "0192d1a0-0000-7000-8000-000000000000";
    api.get("/v2/pools").await.problem(404, "not_found");
    api.get("/v1/pools/").await.problem(404, "not_found");
    assert!(api.get("/v1/pools/app").await.problem(404, "pool_not_found").contains("PUT /v1/pools/app"));
    api.delete("/v1/pools/app").await.problem(404, "pool_not_found");
    api.post("/v1/leases", json!({"pool": "app"})).await.problem(404, "pool_not_found");
    api.put("/v1/pools/app/templates/v1", json!({})).await.problem(404, "pool_not_found");
    api.put("/v1/runs/r", json!({"pool": "app"})).await.problem(404, "pool_not_found");
    api.put("/v1/pools/app", json!({"warm": 0})).await.expect(201);
    api.post("/v1/leases", json!({"pool": "app"})).await.problem(404, "template_not_found");
    api.get("/v1/pools/app/templates/v1").await.problem(404, "template_not_found");
    api.delete("/v1/pools/app/templates/v1").await.problem(404, "template_not_found");
    api.post("/v1/pools/app/templates/v1/seal", json!({"token": "x"})).await.problem(404, "template_not_found");
    for id in [nothing, "gw0", "0192d1a0", "%00", "..%2F..%2Fetc"] {
        api.get(&format!("/v1/leases/{id}")).await.problem(404, "lease_not_found");
        api.delete(&format!("/v1/leases/{id}")).await.problem(404, "lease_not_found");
        for verb in ["renew", "reset", "keep"] {
            api.post(&format!("/v1/leases/{id}/{verb}"), json!({})).await.problem(404, "lease_not_found");
        }
    }
    for name in ["app_kept_1", "a%00b", "%F0%9F%92%A5", &"x".repeat(64), "app_gw0%22;drop"] {
        api.delete(&format!("/v1/databases/{name}")).await.problem(404, "database_not_found");
    }
}

#[tokio::test]
async fn conflict_names_holder() {
    let api = TestApi::new();
    api.ready_pool(2, 2, 1).await;
    let lease = api.take(json!({"run": "r", "worker": "gw0", "holder": "ci-7/gw0"})).await;
    let detail = api.delete("/v1/pools/app").await.problem(409, "pool_in_use");
    assert!(detail.contains("ci-7/gw0") && detail.contains("force=true"), "{detail}");
    let detail = api.delete("/v1/pools/app/templates/v1").await.problem(409, "template_in_use");
    assert!(detail.contains("ci-7/gw0"), "{detail}");
    let token = api.build("v2").await;
    let acquire_request = json!({"pool": "app", "fingerprint": "v2", "run": "r", "worker": "gw0"});
    let detail = api.post("/v1/leases", acquire_request).await.problem(409, "lease_conflict");
    assert!(detail.contains(lease["id"].as_str().unwrap()), "{detail}");
    api.post("/v1/pools/app/templates/v2/renew", json!({"token": "wrong"})).await.problem(409, "build_token_stale");
    api.post("/v1/pools/app/templates/v2/renew", json!({"token": token})).await.problem(409, "template_not_building");
    api.post("/v1/pools/app/templates/v2/abandon", json!({"token": token, "detail": "x"}))
        .await
        .problem(409, "template_not_building");
    let detail = api.post("/v1/leases", json!({"pool": "app", "run": "r2"})).await.problem(409, "template_ambiguous");
    assert!(detail.contains("its current one is \"v2\"") && detail.contains("announced runs: \"v1\""), "{detail}");
    let detail = api.put("/v1/runs/r2", json!({"pool": "app"})).await.problem(409, "template_ambiguous");
    assert!(detail.contains("\"v1\""), "{detail}");
    let one = json!({"pool": "app", "fingerprint": "v2"});
    let three = json!({"leases": [one, one, one]});
    let detail = api.post("/v1/leases/batch", three).await.problem(409, "capacity_exceeded");
    assert!(detail.contains("max is 2"), "{detail}");
    let run = json!({"pool": "app", "fingerprint": "v2", "workers": 3});
    api.put("/v1/runs/r2", run).await.problem(409, "capacity_exceeded");
    api.backend.create_externally("other_gw0").unwrap();
    let detail = api.put("/v1/pools/other", json!({})).await.problem(409, "foreign_databases");
    assert!(detail.contains("dropdb 'other_gw0'"), "{detail}");
}

#[tokio::test]
async fn ended_lease_and_run_are_410_with_time_and_reason() {
    let api = TestApi::new();
    api.ready_pool(2, 4, 1).await;
    let lease = api.take(json!({"run": "r"})).await;
    let path = format!("/v1/leases/{}", lease["id"].as_str().unwrap());
    let id = lease["id"].as_str().unwrap().parse().unwrap();
    api.backend.end_lease(id, End::Expired, "not renewed for 60 s").await.unwrap();
    for verb in ["renew", "reset", "keep"] {
        let detail = api.post(&format!("{path}/{verb}"), json!({})).await.problem(410, "lease_ended");
        let is_explained = detail.contains("expired at 1970-01-01T00:00:0") && detail.contains("not renewed for 60 s");
        assert!(is_explained, "{detail}");
    }
    api.delete(&path).await.expect(204);
    let released = api.delete("/v1/runs/r").await.expect(200);
    assert_eq!(released.json, json!({"released": 0}));
    api.post("/v1/leases", json!({"pool": "app", "run": "r"})).await.problem(410, "run_ended");
    api.put("/v1/runs/r", json!({"pool": "app"})).await.problem(410, "run_ended");
    api.backend.advance(25.0 * 3600.0);
    api.get(&path).await.problem(404, "lease_not_found");
}

#[tokio::test]
async fn wait_in_vain_names_holders() {
    let api = TestApi::new();
    api.ready_pool(1, 1, 0).await;
    let lease = api.take(json!({"holder": "ci-7/gw0"})).await;
    let detail =
        api.post("/v1/leases", json!({"pool": "app", "wait_seconds": 0.05})).await.problem(503, "pool_exhausted");
    assert!(detail.contains("app_gw0 by ci-7/gw0") && detail.contains("max is 1"), "{detail}");
    let path = format!("/v1/leases/{}/reset", lease["id"].as_str().unwrap());
    let detail = api.post(&path, json!({"wait_seconds": 0})).await.problem(503, "pool_exhausted");
    assert!(detail.contains("untouched"), "{detail}");

    api.put("/v1/pools/app/templates/v2", json!({"holder": "slow"})).await.expect(201);
    let acquire_request = json!({"pool": "app", "fingerprint": "v2", "wait_seconds": 0});
    api.post("/v1/leases", acquire_request).await.problem(503, "template_building");

    api.backend.set_limits(Limits { free_disk_bytes: Some(5 << 20), disk_floor_bytes: 1 << 30, ..Limits::default() });
    let detail = api.post("/v1/leases", json!({"pool": "app", "wait_seconds": 0})).await.problem(503, "disk_floor");
    assert!(detail.contains("5 MiB are free"), "{detail}");

    api.stopping.cancel();
    api.post("/v1/leases", json!({"pool": "app"})).await.problem(503, "shutting_down");
}

#[tokio::test]
async fn failed_source_build_is_422_with_its_output() {
    let api = TestApi::with(Authenticator::default(), Arc::new(FailingSource));
    api.put("/v1/pools/app", json!({})).await.expect(201);
    let detail = api.post("/v1/leases", json!({"pool": "app"})).await.problem(422, "template_failed");
    assert!(detail.contains("0003_orders.sql"), "{detail}");
    api.put("/v1/pools/app/templates/v1", json!({})).await.problem(422, "template_failed");
}

#[tokio::test]
async fn request_before_server_is_up_is_503_with_reason() {
    let api = TestApi::new();
    api.stage.send_replace(None);
    api.status.starting.store(true, Ordering::SeqCst);
    for (method, path) in
        routes().into_iter().filter(|(_, path)| path.starts_with("/v1/") && !path.ends_with("nowhere"))
    {
        let detail = api.send(Call::new(method, &path)).await.problem(503, "server_unavailable");
        assert!(detail.contains("running initdb"), "{path}: {detail}");
    }
    api.get("/livez").await.expect(200);
    api.stage.send_replace(Some(api.service.clone()));
    api.get("/v1/pools").await.expect(200);
}
