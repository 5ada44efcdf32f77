//! Slow senders and slow readers, over real sockets: each costs one connection for a short time, and delays no other caller.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::serve::Bounds;
use crate::http::tests::TestApi;
use crate::http::tests::sockets::{GENEROUS, listen, read_to_end, send_raw};

const SHORT: Duration = Duration::from_millis(400);

/// How many are slow at once: both ends of each are open files of this process.
const SLOW: usize = 100;

/// Sends the head at once and then a byte now and then, as a slowloris does; returns what it received until it was cut off.
async fn drip(address: SocketAddr, head: &'static str) -> (Duration, String) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        // Until the other side has closed.
        while writer.write_all(b"x").await.is_ok() {
            pause.tick().await;
        }
    });
    let mut received = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut received);
    tokio::time::timeout(Duration::from_secs(30), reading).await.expect("it is cut off").ok();
    let took = began.elapsed();
    writing.abort();
    (took, String::from_utf8_lossy(&received).into_owned())
}

#[tokio::test]
async fn slow_sender_is_cut_off_while_others_are_served() {
    let api = TestApi::new();
    let bounds = Bounds { connections: 2 * SLOW + 10, header: SHORT, body: SHORT, ..GENEROUS };
    let (address, _serving) = listen(&api, bounds).await;
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn(drip(address, "GET /v1/pools HTTP/1.1\r\nHost: localhost\r\nX-Slow: "));
        slow.spawn(drip(
            address,
            "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{\"pool\":\"",
        ));
    }
    let mut served = 0;
    while !slow.is_empty() {
        let answer = send_raw(address, "GET /v1/pools HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        served += 1;
        while let Some(ended) = slow.try_join_next() {
            let (took, received) = ended.unwrap();
            assert!(took >= SHORT, "it was given its time");
            assert!(!received.contains("200 OK") && !received.contains("201 Created"), "{received}");
        }
    }
    assert!(served > 3, "{served}");
}

#[tokio::test]
async fn body_that_does_not_arrive_is_refused_with_reason() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, Bounds { body: Duration::from_millis(50), ..GENEROUS }).await;
    let head =
        "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("body: must arrive within 50ms"), "{answer}");
}

/// Who asks for much and reads nothing holds a connection, its buffers and perhaps a lease.
///
/// Regression: who asked for much and read nothing held a connection for ever (found by raw sockets).
#[tokio::test]
async fn client_that_does_not_read_is_cut_off() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, Bounds { connections: 1, stalled: 4 * SHORT, ..GENEROUS }).await;
    let mut slow_reader = TcpStream::connect(address).await.unwrap();
    // More answers than both sockets' buffers hold.
    let many = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    // When nothing more can be written, the daemon is busy with an answer that is not read.
    while let Ok(written) = tokio::time::timeout(SHORT, slow_reader.write(many.as_bytes())).await {
        written.unwrap();
    }
    // The one connection is taken until the slow reader is cut off.
    let get = "GET /v1/pools HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(send_raw(address, get).await.contains("\"machine_busy\""));
    let began = Instant::now();
    while !send_raw(address, get).await.starts_with("HTTP/1.1 200 OK") {
        assert!(began.elapsed() < Duration::from_secs(20), "it is not cut off");
        tokio::time::sleep(SHORT / 8).await;
    }
    drop(slow_reader);
}

/// The bound on writing must not touch those who wait: they neither speak nor are spoken to.
#[tokio::test]
async fn waiter_is_not_treated_as_slow_reader() {
    let api = TestApi::new();
    api.ready_pool(1, 1, 0).await;
    let held = api.take(json!({})).await;
    let bounds = Bounds { header: SHORT / 4, body: SHORT / 4, stalled: SHORT / 4, ..GENEROUS };
    let (address, _serving) = listen(&api, bounds).await;
    let body = r#"{"pool":"app","wait_seconds":60}"#;
    let waiting = tokio::spawn(async move {
        let head =
            "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
        send_raw(address, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await
    });
    let began = Instant::now();
    api.until("it has waited longer than any bound", |_| began.elapsed() > SHORT).await;
    api.delete(&format!("/v1/leases/{}", held["id"].as_str().unwrap())).await.expect(204);
    let answer = waiting.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}
