//! Every code of the contract, reached over HTTP; and what every response carries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::header;
use pgdibs_core::backend::Backend;
use pgdibs_core::lease::End;
use pgdibs_core::name::PoolName;
use pgdibs_core::snapshot::Limits;
use serde_json::{Value, json};

use super::{Call, Edge};
use crate::http::Authenticator;
use crate::http::problem::Code;
use crate::service::{Current, Sources};

struct FailingSource;

impl Sources for FailingSource {
    fn current(&self, _pool: &PoolName) -> Current {
        Current::Unreadable("step 3 of 7 (0003_orders.sql) failed: relation \"users\" does not exist".to_owned())
    }
}

#[test]
fn the_table_of_codes_is_the_contracts() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/problems.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let ours: Vec<Value> = Code::ALL
        .into_iter()
        .map(|code| {
            let (code, status, title, retry_after) = code.facts();
            json!({"code": code, "status": status.as_u16(), "title": title, "retry_after_seconds": retry_after})
        })
        .collect();
    assert_eq!(golden["problems"], Value::from(ours.clone()), "api/problems.json must read\n{:#}", Value::from(ours));
}

#[tokio::test]
async fn what_is_not_there_is_a_404_that_says_what_is_missing() {
    let edge = Edge::new();
    let nothing = "0192d1a0-0000-7000-8000-000000000000";
    edge.get("/").await.problem(404, "not_found");
    edge.get("/v2/pools").await.problem(404, "not_found");
    edge.get("/v1/pools/").await.problem(404, "not_found");
    assert!(edge.get("/v1/pools/app").await.problem(404, "pool_not_found").contains("PUT /v1/pools/app"));
    edge.delete("/v1/pools/app").await.problem(404, "pool_not_found");
    edge.post("/v1/leases", json!({"pool": "app"})).await.problem(404, "pool_not_found");
    edge.put("/v1/pools/app/templates/v1", json!({})).await.problem(404, "pool_not_found");
    edge.put("/v1/runs/r", json!({"pool": "app"})).await.problem(404, "pool_not_found");
    edge.put("/v1/pools/app", json!({"warm": 0})).await.expect(201);
    edge.post("/v1/leases", json!({"pool": "app"})).await.problem(404, "template_not_found");
    edge.get("/v1/pools/app/templates/v1").await.problem(404, "template_not_found");
    edge.delete("/v1/pools/app/templates/v1").await.problem(404, "template_not_found");
    edge.post("/v1/pools/app/templates/v1/seal", json!({"token": "x"})).await.problem(404, "template_not_found");
    for id in [nothing, "gw0", "0192d1a0", "%00", "..%2F..%2Fetc"] {
        edge.get(&format!("/v1/leases/{id}")).await.problem(404, "lease_not_found");
        edge.delete(&format!("/v1/leases/{id}")).await.problem(404, "lease_not_found");
        for verb in ["renew", "reset", "keep"] {
            edge.post(&format!("/v1/leases/{id}/{verb}"), json!({})).await.problem(404, "lease_not_found");
        }
    }
    for name in ["app_kept_1", "a%00b", "%F0%9F%92%A5", &"x".repeat(64), "app_gw0%22;drop"] {
        edge.delete(&format!("/v1/databases/{name}")).await.problem(404, "database_not_found");
    }
}

#[tokio::test]
async fn methods_media_types_and_sizes_are_refused_by_name() {
    let edge = Edge::new();
    for (path, allowed) in [
        ("/v1/leases", "GET,HEAD,POST"),
        ("/v1/pools/app", "GET,HEAD,PUT,DELETE"),
        ("/v1/leases/batch", "POST"),
        ("/v1/runs/r", "PUT,DELETE"),
        ("/livez", "GET,HEAD"),
    ] {
        let refused = edge.send(Call::new("PATCH", path)).await;
        assert_eq!(refused.headers[header::ALLOW], allowed, "{path}");
        refused.problem(405, "method_not_allowed");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", ""] {
        let call = Call::new("POST", "/v1/leases").text("{\"pool\":\"app\"}").header("content-type", kind);
        edge.send(call).await.problem(415, "unsupported_media_type");
    }
    let call = Call::new("POST", "/v1/leases").text("{\"pool\":\"app\"}");
    edge.send(call.header("content-type", "Application/JSON; charset=utf-8")).await.problem(404, "pool_not_found");
    let text = format!("{{\"pool\":\"app\",\"holder\":\"{}\"}}", "x".repeat(64 * 1024));
    let detail = edge.send(Call::new("POST", "/v1/leases").text(&text)).await.problem(413, "body_too_large");
    assert!(detail.contains("64 KiB"), "{detail}");
}

#[tokio::test]
async fn conflicts_say_who_is_in_the_way() {
    let edge = Edge::new();
    edge.ready_pool(2, 2, 1).await;
    let lease = edge.take(json!({"run": "r", "worker": "gw0", "holder": "ci-7/gw0"})).await;
    let detail = edge.delete("/v1/pools/app").await.problem(409, "pool_in_use");
    assert!(detail.contains("ci-7/gw0") && detail.contains("force=true"), "{detail}");
    let detail = edge.delete("/v1/pools/app/templates/v1").await.problem(409, "template_in_use");
    assert!(detail.contains("ci-7/gw0"), "{detail}");
    let token = edge.build("v2").await;
    let acquire_request = json!({"pool": "app", "fingerprint": "v2", "run": "r", "worker": "gw0"});
    let detail = edge.post("/v1/leases", acquire_request).await.problem(409, "lease_conflict");
    assert!(detail.contains(lease["id"].as_str().unwrap()), "{detail}");
    edge.post("/v1/pools/app/templates/v2/renew", json!({"token": "wrong"})).await.problem(409, "build_token_stale");
    edge.post("/v1/pools/app/templates/v2/renew", json!({"token": token})).await.problem(409, "template_not_building");
    edge.post("/v1/pools/app/templates/v2/abandon", json!({"token": token, "detail": "x"}))
        .await
        .problem(409, "template_not_building");
    let three = json!({"leases": [{"pool": "app"}, {"pool": "app"}, {"pool": "app"}]});
    let detail = edge.post("/v1/leases/batch", three).await.problem(409, "capacity_exceeded");
    assert!(detail.contains("max is 2"), "{detail}");
    edge.put("/v1/runs/r2", json!({"pool": "app", "workers": 3})).await.problem(409, "capacity_exceeded");
    edge.backend.create_externally("other_gw0").unwrap();
    let detail = edge.put("/v1/pools/other", json!({})).await.problem(409, "foreign_databases");
    assert!(detail.contains("dropdb 'other_gw0'"), "{detail}");
}

#[tokio::test]
async fn what_is_over_says_how_and_when_it_ended() {
    let edge = Edge::new();
    edge.ready_pool(2, 4, 1).await;
    let lease = edge.take(json!({"run": "r"})).await;
    let path = format!("/v1/leases/{}", lease["id"].as_str().unwrap());
    let id = lease["id"].as_str().unwrap().parse().unwrap();
    edge.backend.end_lease(id, End::Expired, "not renewed for 60 s").await.unwrap();
    for verb in ["renew", "reset", "keep"] {
        let detail = edge.post(&format!("{path}/{verb}"), json!({})).await.problem(410, "lease_ended");
        let said = detail.contains("expired at 1970-01-01T00:00:0") && detail.contains("not renewed for 60 s");
        assert!(said, "{detail}");
    }
    edge.delete(&path).await.expect(204);
    let released = edge.delete("/v1/runs/r").await.expect(200);
    assert_eq!(released.json, json!({"released": 0}));
    edge.post("/v1/leases", json!({"pool": "app", "run": "r"})).await.problem(410, "run_ended");
    edge.put("/v1/runs/r", json!({"pool": "app"})).await.problem(410, "run_ended");
    edge.backend.advance(25.0 * 3600.0);
    edge.get(&path).await.problem(404, "lease_not_found");
}

#[tokio::test]
async fn waits_that_end_empty_handed_say_who_holds_what() {
    let edge = Edge::new();
    edge.ready_pool(1, 1, 0).await;
    let lease = edge.take(json!({"holder": "ci-7/gw0"})).await;
    let detail =
        edge.post("/v1/leases", json!({"pool": "app", "wait_seconds": 0.05})).await.problem(503, "pool_exhausted");
    assert!(detail.contains("app_gw0 by ci-7/gw0") && detail.contains("max is 1"), "{detail}");
    let path = format!("/v1/leases/{}/reset", lease["id"].as_str().unwrap());
    let detail = edge.post(&path, json!({"wait_seconds": 0})).await.problem(503, "pool_exhausted");
    assert!(detail.contains("untouched"), "{detail}");

    edge.put("/v1/pools/app/templates/v2", json!({"holder": "slow"})).await.expect(201);
    let acquire_request = json!({"pool": "app", "fingerprint": "v2", "wait_seconds": 0});
    edge.post("/v1/leases", acquire_request).await.problem(503, "template_building");

    edge.backend.set_limits(Limits { free_disk_bytes: Some(5 << 20), disk_floor_bytes: 1 << 30, ..Limits::default() });
    let detail = edge.post("/v1/leases", json!({"pool": "app", "wait_seconds": 0})).await.problem(503, "disk_floor");
    assert!(detail.contains("5 MiB are free"), "{detail}");

    edge.service.stopping.cancel();
    edge.post("/v1/leases", json!({"pool": "app"})).await.problem(503, "shutting_down");
}

#[tokio::test]
async fn a_build_of_the_daemons_own_that_failed_is_a_422_with_its_output() {
    let edge = Edge::with(Authenticator::default(), Arc::new(FailingSource));
    edge.put("/v1/pools/app", json!({})).await.expect(201);
    let detail = edge.post("/v1/leases", json!({"pool": "app"})).await.problem(422, "template_failed");
    assert!(detail.contains("0003_orders.sql"), "{detail}");
    edge.put("/v1/pools/app/templates/v1", json!({})).await.problem(422, "template_failed");
}

#[tokio::test]
async fn before_the_server_is_up_everything_but_probes_is_a_503_that_says_why() {
    let edge = Edge::new();
    edge.stage.send_replace(None);
    edge.status.starting.store(true, Ordering::SeqCst);
    for (method, path) in
        super::doors::ROUTES.into_iter().filter(|(_, path)| path.starts_with("/v1/") && !path.ends_with("nowhere"))
    {
        let detail = edge.send(Call::new(method, path)).await.problem(503, "server_unavailable");
        assert!(detail.contains("running initdb"), "{path}: {detail}");
    }
    edge.get("/livez").await.expect(200);
    edge.stage.send_replace(Some(edge.service.clone()));
    edge.get("/v1/pools").await.expect(200);
}

#[tokio::test]
async fn a_panic_is_a_500_that_keeps_its_cause_to_itself() {
    let edge = Edge::new();
    edge.status.panics.store(true, Ordering::SeqCst);
    let answer = edge.send(Call::new("GET", "/v1/status").header("x-request-id", "r-1")).await;
    assert_eq!(answer.headers["x-request-id"], "r-1");
    assert!(!answer.text.contains("a bug in a handler"), "{answer:#?}");
    answer.problem(500, "internal");
    edge.get("/v1/pools").await.expect(200);
}

#[tokio::test]
async fn every_response_has_a_request_id_and_is_not_to_be_stored() {
    let edge = Edge::new();
    for (method, path) in super::doors::ROUTES {
        let answer = edge.send(Call::new(method, path)).await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(uuid::Uuid::parse_str(&id).is_ok(), "{path}: {id}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
    }
    let echoed = edge.send(Call::new("GET", "/livez").header("x-request-id", "ci-7/a.b:c_1=@+")).await;
    assert_eq!(echoed.headers["x-request-id"], "ci-7/a.b:c_1=@+");
    for insane in ["a b", "x\ty", "\"", &"x".repeat(129)] {
        let answer = edge.send(Call::new("GET", "/livez").header("x-request-id", insane)).await;
        assert_ne!(answer.headers["x-request-id"], insane);
    }
}
