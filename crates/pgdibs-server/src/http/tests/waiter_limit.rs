//! The waiter limit: callers beyond it are refused at once, and holders of leases are served all the same.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Call, TestApi};
use crate::http::Authenticator;
use crate::service::NoSources;

fn api_with_waiters(waiters: usize) -> TestApi {
    TestApi::with_waiter_limit(Authenticator::default(), Arc::new(NoSources), waiters)
}

fn send(api: &TestApi, call: Call) -> tokio::task::JoinHandle<super::Answer> {
    let router = api.router.clone();
    tokio::spawn(async move { super::answer(&router, call).await })
}

/// Regression: waiters could take every connection, so that no holder could release a database (found by arithmetic).
#[tokio::test]
async fn full_waiter_limit_refuses_waiters_and_serves_holders() {
    let api = api_with_waiters(2);
    api.ready_pool(1, 1, 0).await;
    let held = api.take(json!({"holder": "ci-7"})).await;
    let path = format!("/v1/leases/{}", held["id"].as_str().unwrap());
    let acquire_request =
        |seconds: u64| Call::new("POST", "/v1/leases").json(&json!({"pool": "app", "wait_seconds": seconds}));
    let waiters = [send(&api, acquire_request(60)), send(&api, acquire_request(60))];
    api.until("both wait", |api| api.snapshot().tickets.len() == 2).await;

    let detail = api.send(acquire_request(60)).await.problem(503, "pool_exhausted");
    assert!(detail.contains("2 callers wait at this daemon already"), "{detail}");
    let batch = json!({"leases": [{"pool": "app"}], "wait_seconds": 60});
    api.post("/v1/leases/batch", batch).await.problem(503, "pool_exhausted");
    let detail = api.post(&format!("{path}/reset"), json!({})).await.problem(503, "pool_exhausted");
    assert!(detail.contains("untouched") && detail.contains("2 callers"), "{detail}");
    // A caller that does not wait is told which lease holds what.
    assert!(api.send(acquire_request(0)).await.problem(503, "pool_exhausted").contains("ci-7"));
    assert_eq!(api.snapshot().tickets.len(), 2, "no other ticket was taken");

    api.post(&format!("{path}/renew"), json!({})).await.expect(200);
    api.get("/v1/status").await.expect(200);
    api.delete(&path).await.expect(204);
    let mut granted = Vec::new();
    for waiter in waiters {
        let lease = waiter.await.unwrap().expect(201).json;
        api.delete(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).await.expect(204);
        granted.push(lease["id"].clone());
    }
    assert_ne!(granted[0], granted[1]);
    // The permits are free again.
    let lease = api.send(acquire_request(60)).await.expect(201).json;
    assert_eq!(lease["database"], "app_gw0");
}

#[tokio::test]
async fn full_waiter_limit_refuses_waiters_for_template() {
    let api = api_with_waiters(1);
    api.put("/v1/pools/app", json!({"warm": 1, "max": 2})).await.expect(201);
    let path = "/v1/pools/app/templates/v1";
    let token = json!({"token": api.put(path, json!({})).await.expect(201).json["build"]["token"]});
    let waiter = send(&api, Call::new("POST", "/v1/leases").json(&json!({"pool": "app", "wait_seconds": 60})));
    api.until("it waits", |api| api.snapshot().tickets.len() == 1).await;

    let detail = api.post("/v1/leases", json!({"pool": "app"})).await.problem(503, "template_building");
    assert!(detail.contains("1 callers wait at this daemon already"), "{detail}");
    let extract = api.put(path, json!({"wait_seconds": 60})).await.expect(202);
    assert!(extract.headers.contains_key("retry-after"));
    // A build that cannot be answered is not begun.
    let detail = api.put("/v1/pools/app/templates/v2", json!({})).await.problem(503, "template_building");
    assert!(detail.contains("ask again"), "{detail}");
    let states: Vec<Value> = api.get("/v1/pools/app").await.expect(200).json["templates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|template| json!([template["fingerprint"], template["state"]]))
        .collect();
    assert!(!states.contains(&json!(["v2", "building"])), "{states:?}");

    // The seal goes on although no caller may wait for it; a repeated call finds it done.
    let sealing = api.post(&format!("{path}/seal"), token.clone()).await;
    if sealing.status.as_u16() != 200 {
        sealing.problem(503, "template_building");
    }
    let lease = waiter.await.unwrap().expect(201).json;
    assert_eq!(lease["fingerprint"], "v1");
    api.post(&format!("{path}/seal"), token).await.expect(200);
}
