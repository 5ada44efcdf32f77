//! Callers that hang up: a place in the queue is given up, and a grant or a build that nobody was told of is undone.

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

use super::{Call, Edge};

/// Connects, with an end that is either a reset or an orderly close.
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
async fn a_waiter_that_hangs_up_gives_its_place_up() {
    let edge = Edge::new();
    edge.ready_pool(1, 1, 0).await;
    let address = edge.listen().await;
    let lease = edge.take(json!({})).await;
    for reset in [true, false] {
        let mut waiter = connect(address, reset).await;
        send(&mut waiter, "/v1/leases", &json!({"pool": "app", "wait_seconds": 600})).await;
        edge.until("it waits", |edge| edge.snapshot().tickets.len() == 1).await;
        drop(waiter);
        edge.until("its place is free", |edge| edge.snapshot().tickets.is_empty()).await;
    }
    edge.delete(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).await.expect(204);
    edge.until("the database is ready again", |edge| edge.count("ready") == 1).await;
    assert!(edge.snapshot().leases.is_empty());
}

/// Hangs up, and says what had arrived by then. The kernel is asked, not the reactor, and nothing else runs meanwhile.
fn hang_up(stream: TcpStream) -> String {
    let mut notified = vec![0; 8192];
    let mut stream = stream.into_std().unwrap();
    let count = stream.read(&mut notified).unwrap_or(0);
    String::from_utf8_lossy(&notified[..count]).into_owned()
}

#[tokio::test]
async fn a_grant_that_meets_a_hangup_is_released() {
    let edge = Edge::new();
    edge.ready_pool(1, 1, 1).await;
    let address = edge.listen().await;
    let (mut answered, mut undone) = (0, 0);
    for round in 0..80 {
        let lease = edge.take(json!({"wait_seconds": 10})).await;
        let mut waiter = connect(address, round % 2 == 0).await;
        send(&mut waiter, "/v1/leases", &json!({"pool": "app", "wait_seconds": 600})).await;
        edge.until("it waits", |edge| edge.snapshot().tickets.len() == 1).await;
        let id = lease["id"].as_str().unwrap().parse().unwrap();
        // The grant and the hang-up travel at once; how far each gets is different every time.
        edge.backend.end_lease(id, End::Released, "released").await.unwrap();
        edge.service.wait_queue.wake_reconciler();
        for _ in 0..round / 2 % 10 {
            tokio::task::yield_now().await;
        }
        let notified = hang_up(waiter);
        if notified.contains("\r\n\r\n{") {
            // It went when at most the last byte was still on its way: told or not, the lease is its own until it expires.
            answered += 1;
            edge.until("the answer has left", |edge| edge.service.tasks.is_empty()).await;
            for lease in edge.snapshot().leases {
                edge.delete(&format!("/v1/leases/{}", lease.id)).await.expect(204);
            }
        } else {
            undone += 1;
        }
        edge.until("nobody holds or waits", |edge| {
            let snapshot = edge.snapshot();
            snapshot.tickets.is_empty() && snapshot.leases.is_empty()
        })
        .await;
    }
    assert!(answered > 0 && undone > 0, "both happened: {answered} answered, {undone} undone");
}

/// The response to a call whose body nobody has read yet.
async fn unread(edge: &Edge, call: Call) -> Body {
    let request: Request<Body> = call.request();
    let response = edge.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 201);
    response.into_body()
}

/// Regression: a hang-up between handler and socket kept its lease (found by tests of hang-ups).
#[tokio::test]
async fn a_grant_is_released_unless_its_last_byte_was_handed_over() {
    let edge = Edge::new();
    edge.ready_pool(2, 4, 1).await;
    let acquire_request = || Call::new("POST", "/v1/leases").json(&json!({"pool": "app", "run": "r", "worker": "gw0"}));

    drop(unread(&edge, acquire_request()).await);
    edge.until("an answer that was not read at all is undone", |edge| edge.snapshot().leases.is_empty()).await;

    edge.until("one is ready", |edge| edge.count("ready") > 0).await;
    let mut body = unread(&edge, acquire_request()).await;
    let most = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(serde_json::from_slice::<Value>(&most).is_err(), "what a broken connection leaves cannot be read");
    drop(body);
    edge.until("an answer that was read in part is undone", |edge| edge.snapshot().leases.is_empty()).await;

    edge.until("one is ready", |edge| edge.count("ready") > 0).await;
    let whole = unread(&edge, acquire_request()).await.collect().await.unwrap().to_bytes();
    let lease: Value = serde_json::from_slice(&whole).unwrap();
    edge.service.tasks.close();
    edge.service.tasks.wait().await;
    assert_eq!(edge.snapshot().leases.len(), 1, "a grant answered is a grant kept");

    // The same key gets its lease back with 200, and not reading that takes nothing away.
    let response = edge.router.clone().oneshot(acquire_request().request()).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    drop(response);
    edge.service.tasks.wait().await;
    assert_eq!(edge.snapshot().leases[0].id.to_string(), lease["id"].as_str().unwrap());
}

#[tokio::test]
async fn an_unanswered_batch_releases_what_is_new_in_it_and_nothing_else() {
    let edge = Edge::new();
    edge.ready_pool(3, 4, 0).await;
    let held = edge.take(json!({"run": "r", "worker": "gw0"})).await;
    let acquire_request = |worker: &str| json!({"pool": "app", "run": "r", "worker": worker});
    let batch = json!({"leases": [acquire_request("gw0"), acquire_request("gw1"), acquire_request("gw2")]});
    drop(unread(&edge, Call::new("POST", "/v1/leases/batch").json(&batch)).await);
    edge.until("the new ones are released", |edge| edge.snapshot().leases.len() == 1).await;
    assert_eq!(edge.snapshot().leases[0].id.to_string(), held["id"].as_str().unwrap());
}

#[tokio::test]
async fn a_build_that_nobody_was_told_of_is_given_up() {
    let edge = Edge::new();
    edge.put("/v1/pools/app", json!({"warm": 1})).await.expect(201);
    let path = "/v1/pools/app/templates/v1";
    drop(unread(&edge, Call::new("PUT", path)).await);
    // The next one who asks waits for nobody.
    edge.put(path, json!({"wait_seconds": 10})).await.expect(201);
    edge.service.tasks.close();
    edge.service.tasks.wait().await;
    edge.put(path, json!({"wait_seconds": 0})).await.expect(202);
}
