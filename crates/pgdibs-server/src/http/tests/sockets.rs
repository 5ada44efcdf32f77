//! Raw requests over a socket, for what no client library sends.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::TestApi;
use crate::http::serve::{Bounds, Cut, serve};

const LONG: Duration = Duration::from_secs(30);
pub(in crate::http) const GENEROUS: Bounds = Bounds {
    connections: 100,
    reserve: 4,
    probe: LONG,
    idle: LONG,
    header: LONG,
    body: LONG,
    stalled: LONG,
    shutdown: LONG,
};

pub(in crate::http) async fn listen(api: &TestApi, bounds: Bounds) -> (SocketAddr, JoinHandle<Cut>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = api.stopping.clone();
    (address, tokio::spawn(serve(bounds, listener, api.router.clone(), stopping)))
}

/// Sends text and reads until the server closes the connection.
pub(in crate::http) async fn send_raw(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

pub(in crate::http) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let reading = stream.read_to_end(&mut received);
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the connection ends").ok();
    String::from_utf8(received).unwrap()
}

/// Reads one response with a `Content-Length`.
pub(in crate::http) async fn read_response(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
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
        received.extend_from_slice(&some[..count]);
    }
}
