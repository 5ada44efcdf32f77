//! The reserve for probes, over real sockets: who holds every ordinary connection keeps no probe out.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Reserve;
use crate::http::serve::Bounds;
use crate::http::tests::TestApi;
use crate::http::tests::sockets::{GENEROUS, listen, read_response, read_to_end, send_raw};

/// Ordinary connections of these tests, and those of the reserve.
const LIMIT: usize = 50;
const RESERVE: usize = 8;

/// What a kubelet waits for by default.
const SECOND: Duration = Duration::from_secs(1);

const PROBES: [&str; 3] = ["/livez", "/readyz", "/healthz"];

fn bounds() -> Bounds {
    Bounds { connections: LIMIT, reserve: RESERVE, ..GENEROUS }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A request whose body does not arrive.
const HALF: &[u8] =
    b"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\
    Expect: 100-continue\r\n\r\n";

/// Opens busy connections; each has been accepted as an ordinary one when this returns.
async fn busy(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(HALF).await.unwrap();
        // The handler reads the body.
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));
        streams.push(stream);
    }
    streams
}

/// A probe on a connection of its own must be answered within a second, and the connection closed.
async fn assert_probe(address: SocketAddr, path: &str) {
    let began = Instant::now();
    let answer = tokio::time::timeout(SECOND, send_raw(address, &get(path))).await;
    let answer = answer.unwrap_or_else(|_| panic!("{path}: no answer within {SECOND:?}"));
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{path}: {answer}");
    assert!(began.elapsed() < SECOND, "{path}: {:?}", began.elapsed());
}

async fn assert_probes(address: SocketAddr) {
    for path in PROBES.repeat(3) {
        assert_probe(address, path).await;
    }
    let mut probing = JoinSet::new();
    for path in PROBES.repeat(4) {
        probing.spawn(assert_probe(address, path));
        if probing.len() == RESERVE {
            probing.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(probed) = probing.join_next().await {
        probed.unwrap();
    }
}

#[tokio::test]
async fn probes_are_answered_while_all_connections_are_taken() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, bounds()).await;
    let streams = busy(address, LIMIT).await;
    assert_probes(address).await;
    // A HEAD as well, and with a token that is not needed.
    let head = "HEAD /livez HTTP/1.1\r\nHost: 10.1.2.3\r\nAuthorization: Bearer x\r\n\r\n";
    assert!(send_raw(address, head).await.starts_with("HTTP/1.1 200 OK"));
    drop(streams);
}

#[tokio::test]
async fn other_requests_get_503_until_connection_is_free() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, bounds()).await;
    let mut streams = busy(address, LIMIT).await;
    let body = format!("{{\"pool\":\"{}\"}}", "a".repeat(20_000));
    let post = format!(
        "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for request in [get("/v1/status"), get("/livez/x"), get("/"), post] {
        let answer = send_raw(address, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        for line in [
            "HTTP/1.1 503 ",
            "retry-after: 1",
            "content-type: application/problem+json",
            "x-request-id: ",
            "connection: close",
        ] {
            assert!(head.contains(line), "{line}: {head}");
        }
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&"machine_busy".into(), &503.into()), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("50 connections"), "{problem}");
    }
    // Those that have a connection are served as before.
    streams[0].write_all(b"{\"a\": 1} ").await.unwrap();
    assert!(read_response(&mut streams[0]).await.starts_with("HTTP/1.1 400 "));
    streams[0].write_all(get("/v1/pools").as_bytes()).await.unwrap();
    assert!(read_response(&mut streams[0]).await.starts_with("HTTP/1.1 200 OK"));
    drop(streams);
    let began = Instant::now();
    while !send_raw(address, &get("/v1/pools").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
        .await
        .starts_with("HTTP/1.1 200 OK")
    {
        assert!(began.elapsed() < Duration::from_secs(20), "the connections are free and it is still busy");
    }
    assert_eq!(busy(address, LIMIT).await.len(), LIMIT);
}

#[tokio::test]
async fn idle_connections_in_reserve_do_not_block_probes() {
    let api = TestApi::new();
    // The reserve's own deadline is far away: only eviction makes room.
    let (address, _serving) = listen(&api, bounds()).await;
    let streams = busy(address, LIMIT).await;
    let mut squatters = Vec::new();
    for number in 0..3 * RESERVE {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").await.unwrap();
        }
        squatters.push(stream);
    }
    assert_probes(address).await;
    // The oldest were closed to make room, and there were never more than fit.
    for stream in &mut squatters[..2 * RESERVE] {
        assert_eq!(read_to_end(stream).await, "");
    }
    drop(streams);
}

#[tokio::test]
async fn reserve_connection_is_closed_after_its_deadline() {
    let api = TestApi::new();
    let probe = Duration::from_millis(100);
    let (address, _serving) = listen(&api, Bounds { probe, ..bounds() }).await;
    let _streams = busy(address, LIMIT).await;
    for start in
        ["", "GET /livez HTTP/1.1\r\nHost: loc", "POST /v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
    {
        let began = Instant::now();
        assert_eq!(send_raw(address, start).await, "", "{start:?}");
        assert!(began.elapsed() >= probe && began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn full_reserve_evicts_oldest_idle_connection() {
    let reserve = Reserve::of(3);
    let mut places = Vec::new();
    for _ in 0..3 {
        places.push(reserve.enter().await.unwrap());
    }
    places[0].answering.store(true, Ordering::Relaxed);
    let second = places.remove(1);
    let evicted = second.evicted.clone();
    let leaving = tokio::spawn(async move {
        second.evicted.cancelled().await;
        drop(second);
    });
    places.push(reserve.enter().await.unwrap());
    leaving.await.unwrap();
    assert!(evicted.is_cancelled());
    assert!(places.iter().all(|place| !place.evicted.is_cancelled()));
    assert_eq!(reserve.held.lock().len(), 3);
    drop(places);
    assert_eq!((reserve.held.lock().len(), reserve.permits.available_permits()), (0, 3));
}

#[tokio::test]
async fn full_reserve_without_idle_connection_evicts_oldest() {
    let reserve = Reserve::of(1);
    let place = reserve.enter().await.unwrap();
    place.answering.store(true, Ordering::Relaxed);
    let leaving = tokio::spawn(async move { place.evicted.cancelled().await });
    assert!(reserve.enter().await.is_some());
    leaving.await.unwrap();
}
