//! What only a socket shows: slow and huge requests, HEAD, connections that stay open, their bound, and the end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Edge;
use crate::http::serve::{Bounds, Cut, serve};

const LONG: Duration = Duration::from_secs(30);
pub(super) const ROOMY: Bounds =
    Bounds { connections: 100, reserve: 4, probe: LONG, header: LONG, body: LONG, stalled: LONG, shutdown: LONG };

pub(super) async fn listen(edge: &Edge, bounds: Bounds) -> (SocketAddr, JoinHandle<Cut>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = edge.service.stopping.clone();
    (address, tokio::spawn(serve(bounds, listener, edge.router.clone(), stopping)))
}

/// Sends text and reads until the server closes the connection.
pub(super) async fn say(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

pub(super) async fn rest(stream: &mut TcpStream) -> String {
    let mut notified = Vec::new();
    let reading = stream.read_to_end(&mut notified);
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the connection ends").ok();
    String::from_utf8(notified).unwrap()
}

/// Reads one response with a `Content-Length`.
pub(super) async fn one(stream: &mut TcpStream) -> String {
    let mut notified = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&notified).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return text;
            }
        }
        let mut some = [0; 4096];
        let count = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut some)).await.expect("an answer");
        let count = count.unwrap();
        assert!(count > 0, "the connection ended after {text:?}");
        notified.extend_from_slice(&some[..count]);
    }
}

#[tokio::test]
async fn a_header_that_does_not_come_ends_the_connection() {
    let edge = Edge::new();
    let (address, _serving) = listen(&edge, Bounds { header: Duration::from_millis(100), ..ROOMY }).await;
    for start in ["", "GET /livez HTTP/1.1\r\nHost: loc"] {
        let began = Instant::now();
        let notified = say(address, start).await;
        assert!(began.elapsed() >= Duration::from_millis(100), "it was given its time");
        assert!(!notified.contains("200 OK"), "{notified}");
    }
    assert!(say(address, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.contains("200 OK"));
}

#[tokio::test]
async fn ten_megabytes_are_refused_with_an_answer() {
    let edge = Edge::new();
    let (address, _serving) = listen(&edge, ROOMY).await;
    let size = 10 << 20;
    let head = "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let sized = format!("{head}Content-Length: {size}\r\n\r\n{}", "x".repeat(size));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
    for request in [sized, chunked] {
        let answer = say(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"body_too_large\""), "{answer}");
    }
}

#[tokio::test]
async fn head_answers_like_get_without_a_body_and_connections_stay_open() {
    let edge = Edge::new();
    let (address, _serving) = listen(&edge, ROOMY).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut lengths = Vec::new();
    for path in ["/livez", "/v1/pools"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let answer = one(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        lengths.push(answer.lines().find(|line| line.starts_with("content-length")).unwrap().to_owned());
    }
    let head = say(address, "HEAD /v1/pools HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains(&lengths[1]), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
}

#[tokio::test]
async fn a_lease_travels_whole_over_a_socket() {
    let edge = Edge::new();
    edge.ready_pool(1, 2, 0).await;
    let (address, _serving) = listen(&edge, ROOMY).await;
    let client = reqwest::Client::new();
    let answer = client.post(format!("http://{address}/v1/leases")).json(&json!({"pool": "app"})).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let lease: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(lease["database"], "app_gw0");
    edge.service.tasks.close();
    edge.service.tasks.wait().await;
    assert_eq!(edge.snapshot().leases.len(), 1);
}

#[tokio::test]
async fn at_the_end_waiters_are_answered_and_idle_connections_closed() {
    let edge = Edge::new();
    edge.ready_pool(1, 1, 0).await;
    edge.take(json!({})).await;
    let (address, serving) = listen(&edge, ROOMY).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    one(&mut idle).await;
    let mut waiter = TcpStream::connect(address).await.unwrap();
    let body = r#"{"pool":"app","wait_seconds":600}"#;
    let head =
        "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n";
    waiter.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    edge.until("it waits", |edge| edge.snapshot().tickets.len() == 1).await;
    edge.service.stopping.cancel();
    let answer = rest(&mut waiter).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"shutting_down\""), "{answer}");
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(serving.await.unwrap(), Cut(0));
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_connection_that_is_stuck_at_the_end_is_cut() {
    let edge = Edge::new();
    let (address, serving) = listen(&edge, Bounds { shutdown: Duration::from_millis(100), ..ROOMY }).await;
    let mut stuck = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    stuck.write_all(head.as_bytes()).await.unwrap();
    // The handler reads the body once it asks for it.
    let mut extract = [0; 25];
    stuck.read_exact(&mut extract).await.unwrap();
    assert!(extract.starts_with(b"HTTP/1.1 100 Continue"));
    edge.service.stopping.cancel();
    assert_eq!(serving.await.unwrap(), Cut(1));
    assert_eq!(rest(&mut stuck).await, "");
}
