//! DNS rebinding and cross-site request forgery, over a real socket: refused before any work.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::tests::TestApi;
use crate::http::tests::sockets::{GENEROUS, listen, read_to_end, send_raw};

const JSON: &str = "Content-Type: application/json\r\n";

async fn status(address: SocketAddr, request: &str) -> u16 {
    let answer = send_raw(address, request).await;
    let lower = answer.to_lowercase();
    assert!(!lower.contains("access-control-"), "no other site may ever read an answer: {answer}");
    assert!(lower.contains("x-request-id: "), "it came from us: {answer}");
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer to {request:?}")).parse().unwrap()
}

/// DNS rebinding: the page's own name points at this daemon, so the browser sends its requests here, with its name in `Host`.
#[tokio::test]
async fn rebound_host_name_is_refused() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, GENEROUS).await;
    let ours = address.to_string();
    let port = address.port();
    let cases = [
        (421, "GET /v1/pools HTTP/1.1\r\nHost: evil.example\r\n".to_owned()),
        (421, format!("GET /v1/pools HTTP/1.1\r\nHost: evil.example:{port}\r\n")),
        (421, format!("GET /v1/pools HTTP/1.1\r\nHost: 127.0.0.1.evil.example:{port}\r\n")),
        (421, "GET /v1/pools HTTP/1.1\r\nHost: localhost.evil.example\r\n".to_owned()),
        (421, "GET /v1/pools HTTP/1.1\r\nHost: localhost@evil.example\r\n".to_owned()),
        (421, format!("GET /v1/pools HTTP/1.1\r\nHost: 0.0.0.0:{port}\r\n")),
        (421, format!("GET /v1/pools HTTP/1.1\r\nHost: {ours}\r\nHost: evil.example\r\n")),
        (421, format!("GET /v1/pools HTTP/1.1\r\nHost: {ours}\r\nHost: {ours}\r\n")),
        (421, format!("GET http://evil.example/v1/pools HTTP/1.1\r\nHost: {ours}\r\n")),
        (421, "GET http://evil.example/v1/pools HTTP/1.1\r\nHost: evil.example\r\n".to_owned()),
        (421, "GET /v1/pools HTTP/1.1\r\n".to_owned()),
        (421, "GET /v1/pools HTTP/1.0\r\n".to_owned()),
        (421, "GET /v1/pools HTTP/1.1\r\nHost:\r\n".to_owned()),
        (421, format!("PUT /v1/pools/app HTTP/1.1\r\nHost: evil.example\r\n{JSON}Content-Length: 2\r\n")),
        (421, "GET /openapi.json HTTP/1.1\r\nHost: evil.example\r\n".to_owned()),
        (421, "GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n".to_owned()),
        // A page of its own name may know that a daemon is there.
        (200, "GET /livez HTTP/1.1\r\nHost: evil.example\r\n".to_owned()),
        (200, format!("GET /v1/pools HTTP/1.1\r\nHost: {ours}\r\n")),
        (200, format!("GET /v1/pools HTTP/1.1\r\nHost: LOCALHOST:{port}\r\n")),
        (200, format!("GET http://{ours}/v1/pools HTTP/1.1\r\nHost: {ours}\r\n")),
    ];
    for (wanted, request) in cases {
        let got = status(address, &format!("{request}Connection: close\r\n\r\n")).await;
        assert_eq!(got, wanted, "{request}");
    }
    assert!(api.snapshot().pools.is_empty());
}

/// Cross-site request forgery: the page knows our real name, and its reader's browser sends what the page says.
#[tokio::test]
async fn cross_site_request_changes_nothing() {
    let api = TestApi::new();
    api.ready_pool(1, 2, 0).await;
    let (address, _serving) = listen(&api, GENEROUS).await;
    let before = format!("{:#?}", api.snapshot());
    let lease = "{\"pool\":\"app\"}";
    let post = |headers: &str| {
        let length = lease.len();
        format!(
            "POST /v1/leases HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{lease}"
        )
    };
    let delete = |headers: &str| {
        format!("DELETE /v1/pools/app?force=true HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n")
    };
    let evil = "Origin: http://evil.example\r\n";
    let neighbour = "Origin: http://localhost:3000\r\n";
    let cases = [
        (403, post(&format!("{evil}{JSON}"))),
        (403, post(&format!("{neighbour}{JSON}"))),
        (403, post(&format!("Origin: null\r\n{JSON}"))),
        (403, post(&format!("Sec-Fetch-Site: cross-site\r\n{JSON}"))),
        (403, post(&format!("Sec-Fetch-Site: same-site\r\n{JSON}"))),
        (403, post(&format!("Origin: http://{address}\r\nOrigin: http://evil.example\r\n{JSON}"))),
        (403, post(&format!("Origin: https://{address}:1\r\n{JSON}"))),
        (403, post(&format!("{evil}Content-Type: text/plain\r\n"))),
        (403, delete(evil)),
        (403, delete("Sec-Fetch-Site: cross-site\r\n")),
        // Browsers before 2020 send no Origin with some of these; the type that a form may send is not ours.
        (415, post("Content-Type: text/plain\r\n")),
        (415, post("Content-Type: application/x-www-form-urlencoded\r\n")),
        (415, post("Content-Type: multipart/form-data; boundary=x\r\n")),
        (415, post("")),
        // The question that a browser asks first is not answered with yes.
        (
            405,
            format!(
                "OPTIONS /v1/leases HTTP/1.1\r\nHost: {address}\r\n{evil}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\nConnection: close\r\n\r\n"
            ),
        ),
        // Reading goes on, unseen by the page.
        (200, format!("GET /v1/leases HTTP/1.1\r\nHost: {address}\r\n{evil}Connection: close\r\n\r\n")),
    ];
    for (wanted, request) in cases {
        assert_eq!(status(address, &request).await, wanted, "{request}");
    }
    assert_eq!(format!("{:#?}", api.snapshot()), before);
    assert_eq!(status(address, &post(&format!("Origin: http://{address}\r\n{JSON}"))).await, 201, "our own page may");
}

/// The refusal does not wait for a body, and does not ask for it.
#[tokio::test]
async fn unauthenticated_request_is_refused_before_its_body() {
    let api = TestApi::new();
    let (address, _serving) = listen(&api, GENEROUS).await;
    for (status, headers) in
        [(421, "Host: evil.example\r\n"), (403, "Host: localhost\r\nOrigin: http://evil.example\r\n")]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/leases HTTP/1.1\r\n{headers}{JSON}Content-Length: 60000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}
