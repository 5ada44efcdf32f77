//! The waiting room: who finds it full is told to ask again, and who holds something is served all the same.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Call, Edge};
use crate::http::Authenticator;
use crate::service::NoSources;

fn edge_for(waiters: usize) -> Edge {
    Edge::with_room(Authenticator::default(), Arc::new(NoSources), waiters)
}

fn send(edge: &Edge, call: Call) -> tokio::task::JoinHandle<super::Answer> {
    let router = edge.router.clone();
    tokio::spawn(async move { super::answer(&router, call).await })
}

/// Regression: waiters could take every connection, so that nobody could give a database back (found by arithmetic).
#[tokio::test]
async fn when_all_places_are_taken_the_next_one_asks_again_and_those_who_hold_are_served() {
    let edge = edge_for(2);
    edge.ready_pool(1, 1, 0).await;
    let held = edge.take(json!({"holder": "ci-7"})).await;
    let path = format!("/v1/leases/{}", held["id"].as_str().unwrap());
    let acquire_request =
        |seconds: u64| Call::new("POST", "/v1/leases").json(&json!({"pool": "app", "wait_seconds": seconds}));
    let waiters = [send(&edge, acquire_request(60)), send(&edge, acquire_request(60))];
    edge.until("both wait", |edge| edge.snapshot().tickets.len() == 2).await;

    let detail = edge.send(acquire_request(60)).await.problem(503, "pool_exhausted");
    assert!(detail.contains("2 callers wait at this daemon already"), "{detail}");
    let batch = json!({"leases": [{"pool": "app"}], "wait_seconds": 60});
    edge.post("/v1/leases/batch", batch).await.problem(503, "pool_exhausted");
    let detail = edge.post(&format!("{path}/reset"), json!({})).await.problem(503, "pool_exhausted");
    assert!(detail.contains("untouched") && detail.contains("2 callers"), "{detail}");
    // Who does not want to wait hears who holds what.
    assert!(edge.send(acquire_request(0)).await.problem(503, "pool_exhausted").contains("ci-7"));
    assert_eq!(edge.snapshot().tickets.len(), 2, "nobody else has a place in the queue");

    edge.post(&format!("{path}/renew"), json!({})).await.expect(200);
    edge.get("/v1/status").await.expect(200);
    edge.delete(&path).await.expect(204);
    let mut granted = Vec::new();
    for waiter in waiters {
        let lease = waiter.await.unwrap().expect(201).json;
        edge.delete(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).await.expect(204);
        granted.push(lease["id"].clone());
    }
    assert_ne!(granted[0], granted[1]);
    // The places are free again.
    let lease = edge.send(acquire_request(60)).await.expect(201).json;
    assert_eq!(lease["database"], "app_gw0");
}

#[tokio::test]
async fn a_full_room_is_told_to_those_who_wait_for_a_template_too() {
    let edge = edge_for(1);
    edge.put("/v1/pools/app", json!({"warm": 1, "max": 2})).await.expect(201);
    let path = "/v1/pools/app/templates/v1";
    let token = json!({"token": edge.put(path, json!({})).await.expect(201).json["build"]["token"]});
    let waiter = send(&edge, Call::new("POST", "/v1/leases").json(&json!({"pool": "app", "wait_seconds": 60})));
    edge.until("it waits", |edge| edge.snapshot().tickets.len() == 1).await;

    let detail = edge.post("/v1/leases", json!({"pool": "app"})).await.problem(503, "template_building");
    assert!(detail.contains("1 callers wait at this daemon already"), "{detail}");
    let extract = edge.put(path, json!({"wait_seconds": 60})).await.expect(202);
    assert!(extract.headers.contains_key("retry-after"));
    // A build that cannot be handed over is not begun.
    let detail = edge.put("/v1/pools/app/templates/v2", json!({})).await.problem(503, "template_building");
    assert!(detail.contains("ask again"), "{detail}");
    let states: Vec<Value> = edge.get("/v1/pools/app").await.expect(200).json["templates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|template| json!([template["fingerprint"], template["state"]]))
        .collect();
    assert!(!states.contains(&json!(["v2", "building"])), "{states:?}");

    // The seal goes on although nobody may wait for it; asked again, it is done.
    let sealing = edge.post(&format!("{path}/seal"), token.clone()).await;
    if sealing.status.as_u16() != 200 {
        sealing.problem(503, "template_building");
    }
    let lease = waiter.await.unwrap().expect(201).json;
    assert_eq!(lease["fingerprint"], "v1");
    edge.post(&format!("{path}/seal"), token).await.expect(200);
}
