//! What only a socket shows: slow and huge requests, HEAD, connections that stay open, their bound, and the shutdown.

mod idle;
mod slow;

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bounds, Cut};
use crate::http::tests::TestApi;
use crate::http::tests::sockets::{GENEROUS, listen, read_response, read_to_end, send_raw};

#[tokio::test]
async fn body_of_ten_megabytes_is_refused_with_answer() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, GENEROUS).await;
    let size = 10 << 20;
    let head = "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let sized = format!("{head}Content-Length: {size}\r\n\r\n{}", "x".repeat(size));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
    for request in [sized, chunked] {
        let answer = send_raw(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"body_too_large\""), "{answer}");
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_body() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, GENEROUS).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut lengths = Vec::new();
    for path in ["/livez", "/v1/pools"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let answer = read_response(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        lengths.push(answer.lines().find(|line| line.starts_with("content-length")).unwrap().to_owned());
    }
    let head = send_raw(address, "HEAD /v1/pools HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains(&lengths[1]), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
}

#[tokio::test]
async fn lease_is_answered_over_socket() {
    let api = TestApi::new();
    api.ready_pool(1, 2, 0).await;
    let (address, _serving) = listen(&api, GENEROUS).await;
    let client = reqwest::Client::new();
    let answer = client.post(format!("http://{address}/v1/leases")).json(&json!({"pool": "app"})).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let lease: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(lease["database"], "app_gw0");
    api.tasks.close();
    api.tasks.wait().await;
    assert_eq!(api.snapshot().leases.len(), 1);
}

#[tokio::test]
async fn shutdown_answers_waiters_and_closes_idle_connections() {
    let api = TestApi::new();
    api.ready_pool(1, 1, 0).await;
    api.take(json!({})).await;
    let (address, serving) = listen(&api, GENEROUS).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    read_response(&mut idle).await;
    let mut waiter = TcpStream::connect(address).await.unwrap();
    let body = r#"{"pool":"app","wait_seconds":600}"#;
    let head =
        "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n";
    waiter.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    api.until("it waits", |api| api.snapshot().tickets.len() == 1).await;
    api.stopping.cancel();
    let answer = read_to_end(&mut waiter).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"shutting_down\""), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(read_to_end(&mut idle).await, "");
    assert_eq!(serving.await.unwrap(), Cut(0));
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn shutdown_cuts_stuck_connection() {
    let api = TestApi::new();
    let (address, serving) = listen(&api, Bounds { shutdown: Duration::from_millis(100), ..GENEROUS }).await;
    let mut stuck = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    stuck.write_all(head.as_bytes()).await.unwrap();
    // The handler reads the body once it asks for it.
    let mut interim = [0; 25];
    stuck.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));
    api.stopping.cancel();
    assert_eq!(serving.await.unwrap(), Cut(1));
    assert_eq!(read_to_end(&mut stuck).await, "");
}

/// A process sends the report of its run, and ends without waiting for the answer.
#[tokio::test]
async fn report_is_kept_although_its_sender_has_gone() {
    let api = TestApi::new();
    api.ready_pool(0, 1, 0).await;
    let (address, serving) = listen(&api, GENEROUS).await;
    for number in 0..20 {
        let mut sender = TcpStream::connect(address).await.unwrap();
        let head =
            format!("POST /v1/runs/r{number}/report HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        sender.write_all(format!("{head}Content-Length: 14\r\n\r\n{{\"pool\":\"app\"}}").as_bytes()).await.unwrap();
        drop(sender);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let runs = api.get("/v1/runs").await.expect(200).json["runs"].as_array().unwrap().len();
        if runs == 20 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{runs} of 20 reports are kept");
        // The pause between two polls.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    api.stopping.cancel();
    serving.await.unwrap();
}
