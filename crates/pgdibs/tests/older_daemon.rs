//! Calls to a daemon that is older than this client: it names no API level, and refuses a field or a route.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and helpers of tests are meant too")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use pgdibs::{Client, Error, Method};
use serde_json::{Value, json};

/// A daemon that knows the status and leases without these fields, of this level (`None`: no header).
fn daemon(level: Option<u32>, unknown: &'static [&'static str]) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder(format!("http://{}", listener.local_addr().unwrap())).build().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = BufReader::new(connection.unwrap());
            while let Some((target, body)) = read_request(&mut connection) {
                let (status, answer) = answer(&target, &body, unknown);
                let level = level.map(|level| format!("Pgdibs-Api: {level}\r\n")).unwrap_or_default();
                let length = answer.len();
                let head = format!("HTTP/1.1 {status} Status\r\n{level}Content-Length: {length}\r\n\r\n");
                connection.get_mut().write_all((head + &answer).as_bytes()).unwrap();
            }
        }
    });
    client
}

fn answer(target: &str, body: &str, unknown: &[&str]) -> (u16, String) {
    let problem =
        |status: u16, code: &str, detail: String| (status, json!({"code": code, "detail": detail}).to_string());
    match target {
        "GET /v1/status" => (200, json!({"daemon": {"version": "0.0.9"}}).to_string()),
        "POST /v1/leases" => match unknown.iter().find(|name| body.contains(&format!("\"{name}\""))) {
            Some(name) => problem(400, "invalid_request", format!("{name}: unknown field `{name}`, expected `pool`")),
            None => (201, body.to_owned()),
        },
        _ => problem(404, "not_found", "there is no such route".to_owned()),
    }
}

/// Method with path, and the body; `None` when the client has closed the connection.
fn read_request(connection: &mut impl BufRead) -> Option<(String, String)> {
    let mut first = String::new();
    connection.read_line(&mut first).ok().filter(|&read| read > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).ok()?;
    let target: Vec<&str> = first.split(' ').take(2).collect();
    Some((target.join(" "), String::from_utf8(body).unwrap()))
}

async fn acquire(client: &Client, body: &Value) -> Result<Value, Error> {
    let response = client.call(Method::POST, "/v1/leases", Some(body), Duration::ZERO).await?;
    Ok(response.value().unwrap())
}

#[tokio::test]
async fn field_that_only_informs_is_left_out() {
    let client = daemon(None, &["holder"]);
    let granted = acquire(&client, &json!({"pool": "p", "holder": "me", "fresh": true})).await.unwrap();
    assert_eq!(granted, json!({"pool": "p", "fresh": true}));
}

#[tokio::test]
async fn field_that_is_needed_gives_sentence_with_both_versions() {
    let client = daemon(None, &["holder", "fresh"]);
    let error = acquire(&client, &json!({"pool": "p", "holder": "me", "fresh": true})).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_request"));
    let ours = format!("pgdibs client {} (API level {})", env!("CARGO_PKG_VERSION"), pgdibs::api::level::API_LEVEL);
    assert_eq!(
        error.to_string(),
        format!(
            "{ours} talks to pgdibs daemon 0.0.9 (API level 0), which does not know `fresh`; \
             upgrade the daemon or leave out `fresh`"
        )
    );
}

#[tokio::test]
async fn missing_route_gives_sentence_with_both_versions() {
    let sentence = daemon(None, &[]).get("/v1/news?since=1").await.err().unwrap().to_string();
    assert!(sentence.contains("(API level 0), which does not know `GET /v1/news`; upgrade the daemon"), "{sentence}");
}

#[tokio::test]
async fn daemon_that_is_not_older_gives_its_own_sentence() {
    for level in [pgdibs::api::level::API_LEVEL, pgdibs::api::level::API_LEVEL + 1] {
        let client = daemon(Some(level), &["fresh"]);
        let error = acquire(&client, &json!({"pool": "p", "fresh": true})).await.unwrap_err();
        assert_eq!(error.to_string(), "fresh: unknown field `fresh`, expected `pool`");
    }
}
