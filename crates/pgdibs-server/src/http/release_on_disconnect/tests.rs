//! Callers that disconnect: their tickets are deleted, and a grant or a build that was not answered is undone.

use std::io::Read;
use std::net::SocketAddr;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use pgdibs_core::backend::Backend;
use pgdibs_core::lease::End;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tower::ServiceExt;

use crate::http::tests::{Call, TestApi, lease_path};

/// Connects, to be ended by a reset or by an orderly close.
async fn connect(to: SocketAddr, reset: bool) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if reset {
        socket.set_zero_linger().unwrap();
    }
    socket.connect(to).await.unwrap()
}

async fn send(stream: &mut TcpStream, path: &str, body: &Value) {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
}

#[tokio::test]
async fn waiter_that_disconnects_leaves_queue() {
    let api = TestApi::new();
    api.ready_pool(1, 1, 0).await;
    let address = api.listen().await;
    let lease = api.take(json!({})).await;
    for reset in [true, false] {
        let mut waiter = connect(address, reset).await;
        send(&mut waiter, "/v1/leases", &json!({"pool": "app", "wait_seconds": 600})).await;
        api.until("it waits", |api| api.snapshot().tickets.len() == 1).await;
        drop(waiter);
        api.until("its place is free", |api| api.snapshot().tickets.is_empty()).await;
    }
    api.delete(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).await.expect(204);
    api.until("the database is ready again", |api| api.count("ready") == 1).await;
    assert!(api.snapshot().leases.is_empty());
}

/// Without a task of its own the DELETE is dropped: the server reads request and end of the connection together.
#[tokio::test]
async fn release_by_caller_that_disconnects_at_once_counts() {
    let api = TestApi::new();
    api.ready_pool(2, 2, 0).await;
    let address = api.listen().await;
    for path in ["lease", "run"] {
        let lease = api.take(json!({"run": "r"})).await;
        let path = if path == "run" { "/v1/runs/r".to_owned() } else { lease_path(&lease, "") };
        let mut last = connect(address, false).await;
        last.write_all(format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        drop(last);
        api.until("the lease has ended", |api| api.snapshot().leases.is_empty()).await;
    }
}

/// Disconnects, and returns what had arrived by then. It reads from the kernel, not the reactor, so nothing else runs meanwhile.
fn disconnect(stream: TcpStream) -> String {
    let mut received = vec![0; 8192];
    let mut stream = stream.into_std().unwrap();
    let count = stream.read(&mut received).unwrap_or(0);
    String::from_utf8_lossy(&received[..count]).into_owned()
}

#[tokio::test]
async fn grant_beside_disconnect_is_released() {
    let api = TestApi::new();
    api.ready_pool(1, 1, 1).await;
    let address = api.listen().await;
    let (mut answered, mut undone) = (0, 0);
    for round in 0..80 {
        let lease = api.take(json!({"wait_seconds": 10})).await;
        let mut waiter = connect(address, round % 2 == 0).await;
        send(&mut waiter, "/v1/leases", &json!({"pool": "app", "wait_seconds": 600})).await;
        api.until("it waits", |api| api.snapshot().tickets.len() == 1).await;
        let id = lease["id"].as_str().unwrap().parse().unwrap();
        // Grant and disconnect race; how far each gets is different every time.
        api.backend.end_lease(id, End::Released, "released").await.unwrap();
        api.wait_queue.wake_reconciler();
        for _ in 0..round / 2 % 10 {
            tokio::task::yield_now().await;
        }
        let received = disconnect(waiter);
        if received.contains("\r\n\r\n{") {
            // It disconnected when at most the last byte was still to come: the lease is its own until it expires.
            answered += 1;
            api.until("the answer has left", |api| api.tasks.is_empty()).await;
            for lease in api.snapshot().leases {
                api.delete(&format!("/v1/leases/{}", lease.id)).await.expect(204);
            }
        } else {
            undone += 1;
        }
        api.until("no lease and no ticket is left", |api| {
            let snapshot = api.snapshot();
            snapshot.tickets.is_empty() && snapshot.leases.is_empty()
        })
        .await;
    }
    assert!(answered > 0 && undone > 0, "both happened: {answered} answered, {undone} undone");
}

/// The response to a call, its body unread.
async fn unread(api: &TestApi, call: Call) -> Body {
    let request: Request<Body> = call.request();
    let response = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 201);
    response.into_body()
}

/// Regression: a disconnect between handler and socket kept its lease (found by tests of disconnects).
#[tokio::test]
async fn grant_is_released_unless_last_byte_was_written() {
    let api = TestApi::new();
    api.ready_pool(2, 4, 1).await;
    let acquire_request = || Call::new("POST", "/v1/leases").json(&json!({"pool": "app", "run": "r", "worker": "gw0"}));

    drop(unread(&api, acquire_request()).await);
    api.until("an answer that was not read at all is undone", |api| api.snapshot().leases.is_empty()).await;

    api.until("one is ready", |api| api.count("ready") > 0).await;
    let mut body = unread(&api, acquire_request()).await;
    let most = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(serde_json::from_slice::<Value>(&most).is_err(), "what a broken connection leaves cannot be read");
    drop(body);
    api.until("an answer that was read in part is undone", |api| api.snapshot().leases.is_empty()).await;

    api.until("one is ready", |api| api.count("ready") > 0).await;
    let whole = unread(&api, acquire_request()).await.collect().await.unwrap().to_bytes();
    let lease: Value = serde_json::from_slice(&whole).unwrap();
    api.tasks.close();
    api.tasks.wait().await;
    assert_eq!(api.snapshot().leases.len(), 1, "a grant answered is a grant kept");

    // The same key gets its lease back with 200, and not reading that takes nothing away.
    let response = api.router.clone().oneshot(acquire_request().request()).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    drop(response);
    api.tasks.wait().await;
    assert_eq!(api.snapshot().leases[0].id.to_string(), lease["id"].as_str().unwrap());
}

#[tokio::test]
async fn unanswered_batch_releases_only_its_new_leases() {
    let api = TestApi::new();
    api.ready_pool(3, 4, 0).await;
    let held = api.take(json!({"run": "r", "worker": "gw0"})).await;
    let acquire_request = |worker: &str| json!({"pool": "app", "run": "r", "worker": worker});
    let batch = json!({"leases": [acquire_request("gw0"), acquire_request("gw1"), acquire_request("gw2")]});
    drop(unread(&api, Call::new("POST", "/v1/leases/batch").json(&batch)).await);
    api.until("the new ones are released", |api| api.snapshot().leases.len() == 1).await;
    assert_eq!(api.snapshot().leases[0].id.to_string(), held["id"].as_str().unwrap());
}

#[tokio::test]
async fn unanswered_build_is_abandoned() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({"warm": 1})).await.expect(201);
    let path = "/v1/pools/app/templates/v1";
    drop(unread(&api, Call::new("PUT", path)).await);
    // The next caller does not wait.
    api.put(path, json!({"wait_seconds": 10})).await.expect(201);
    api.tasks.close();
    api.tasks.wait().await;
    api.put(path, json!({"wait_seconds": 0})).await.expect(202);
}
