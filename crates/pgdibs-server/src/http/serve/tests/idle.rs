//! Connections without a request: how long they stay open, and which one makes room for another.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::Bounds;
use crate::http::tests::TestApi;
use crate::http::tests::sockets::{GENEROUS, listen, read_response, read_to_end};

const SHORT: Duration = Duration::from_millis(100);
const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn header_that_does_not_arrive_ends_connection() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, Bounds { header: SHORT, ..GENEROUS }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answered = async |stream: &mut TcpStream| {
        stream.write_all(LIVEZ).await.unwrap();
        assert!(read_response(stream).await.starts_with("HTTP/1.1 200 OK"));
    };
    answered(&mut stream).await;
    // The limit of a header does not count while nothing of it has arrived.
    let idle = tokio::time::timeout(5 * SHORT, stream.read_u8()).await;
    assert!(idle.is_err(), "an idle connection was closed: {idle:?}");
    answered(&mut stream).await;
    let began = Instant::now();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");
    assert!(began.elapsed() >= SHORT, "the header was given its time");
}

#[tokio::test]
async fn idle_connection_is_closed_after_its_time() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, Bounds { idle: SHORT, header: 4 * SHORT, ..GENEROUS }).await;
    for request in [&b""[..], LIVEZ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let began = Instant::now();
        read_to_end(&mut stream).await;
        assert!(began.elapsed() >= SHORT, "it was given its time");
    }
    let seconds = Bounds::with_connections(1).idle.as_secs();
    let (address, _serving) = listen(&api, Bounds::with_connections(1)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(LIVEZ).await.unwrap();
    let answer = read_response(&mut stream).await;
    assert!(seconds >= 75 && answer.contains(&format!("\r\nkeep-alive: timeout={seconds}\r\n")), "{answer}");
}

#[tokio::test]
async fn new_connection_replaces_longest_idle() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, Bounds { connections: 2, ..GENEROUS }).await;
    let connect = async |request: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream
    };
    let (mut longest, mut shorter) = (connect(LIVEZ).await, connect(LIVEZ).await);
    read_response(&mut longest).await;
    read_response(&mut shorter).await;
    let mut third = connect(LIVEZ).await;
    assert!(read_response(&mut third).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(read_to_end(&mut longest).await, "");
    // One with a request in progress is not idle; the connection that has just been answered is.
    let half =
        b"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\
        Expect: 100-continue\r\n\r\n";
    shorter.write_all(half).await.unwrap();
    let mut interim = [0; 25];
    shorter.read_exact(&mut interim).await.unwrap();
    let mut fourth = connect(LIVEZ).await;
    assert!(read_response(&mut fourth).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(read_to_end(&mut third).await, "");
    shorter.write_all(b"{\"a\": 1} ").await.unwrap();
    assert!(read_response(&mut shorter).await.starts_with("HTTP/1.1 400 "));
}
