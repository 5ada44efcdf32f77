//! When a call is sent again: exactly on `Retry-After`, and once when a connection that was used before dies before an answer.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and helpers of tests are meant too")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use pgdibs::{Client, Error, Method};
use serde_json::json;

/// What the server does with one request of a connection.
#[derive(Clone, Copy)]
enum Reply {
    /// Answers and keeps the connection.
    Answer(&'static str),
    /// Closes the connection without an answer.
    Close,
}

const OK: Reply = Reply::Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
const AGAIN: Reply = Reply::Answer(
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 41\r\n\r\n{\"code\":\"pool_exhausted\",\"detail\":\"full\"}",
);
const REFUSED: Reply = Reply::Answer(
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 41\r\n\r\n{\"code\":\"pool_exhausted\",\"detail\":\"full\"}",
);

/// A server whose connections follow these scripts, one each; it sends the number of a connection for each request that it has read.
fn server(scripts: &'static [&'static [Reply]]) -> (Client, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder(format!("http://{}", listener.local_addr().unwrap())).build().unwrap();
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for (number, script) in scripts.iter().enumerate() {
            let Ok((connection, _)) = listener.accept() else { return };
            follow(connection, script, number, &sender);
        }
    });
    (client, received)
}

fn follow(mut connection: TcpStream, script: &[Reply], number: usize, sender: &Sender<usize>) {
    for reply in script {
        if !read_request(&mut connection) {
            return;
        }
        let _test_is_over = sender.send(number);
        match reply {
            Reply::Answer(text) => connection.write_all(text.as_bytes()).unwrap(),
            Reply::Close => return,
        }
    }
}

/// Reads a head and the body that its `Content-Length` announces; false when the client has closed the connection.
fn read_request(connection: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if connection.read(&mut byte).unwrap_or(0) == 0 {
            return false;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
    connection.read_exact(&mut vec![0; length]).is_ok()
}

fn requests(received: &Receiver<usize>) -> Vec<usize> {
    received.try_iter().collect()
}

#[tokio::test]
async fn call_is_sent_again_when_its_reused_connection_dies() {
    let (client, received) = server(&[&[OK, Reply::Close], &[OK]]);
    client.get("/livez").await.unwrap();
    client.get("/livez").await.unwrap();
    assert_eq!(requests(&received), [0, 0, 1]);
}

#[tokio::test]
async fn call_is_sent_once_when_its_new_connection_dies() {
    let (client, received) = server(&[&[Reply::Close], &[OK]]);
    let error = client.get("/livez").await.err().unwrap();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    assert_eq!(requests(&received), [0]);
}

#[tokio::test]
async fn call_is_sent_again_only_once() {
    let (client, received) = server(&[&[OK, Reply::Close], &[Reply::Close], &[OK]]);
    client.get("/livez").await.unwrap();
    assert!(client.get("/livez").await.is_err());
    assert_eq!(requests(&received), [0, 0, 1]);
}

async fn acquire(client: &Client) -> Result<pgdibs::Response, Error> {
    let body = |left: f64| Some(json!({"wait_seconds": left}));
    client.call_waiting(Method::POST, "/v1/leases", body, Duration::from_secs(30), |_| {}).await
}

#[tokio::test]
async fn waiting_call_is_sent_again_while_the_answer_has_retry_after() {
    let (client, received) = server(&[&[AGAIN, AGAIN, OK]]);
    acquire(&client).await.unwrap();
    assert_eq!(requests(&received), [0, 0, 0]);
}

#[tokio::test]
async fn waiting_call_is_not_sent_again_without_retry_after() {
    let (client, received) = server(&[&[REFUSED, OK]]);
    assert_eq!(acquire(&client).await.err().unwrap().code(), Some("pool_exhausted"));
    assert_eq!(requests(&received), [0]);
}
