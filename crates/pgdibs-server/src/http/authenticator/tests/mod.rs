//! Host, origin and token are checked on every route and before any work.

mod cross_site;
mod unauthorized;

use std::sync::Arc;

use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde_json::json;

use crate::http::Authenticator;
use crate::http::tests::operations::routes;
use crate::http::tests::{Call, TestApi};
use crate::service::NoSources;

const TOKEN: &str = "correct horse";

fn guarded() -> TestApi {
    let authenticator =
        Authenticator { token: Some(SecretString::from(TOKEN)), allowed_hosts: vec!["Dibs.example.".to_owned()] };
    TestApi::with(authenticator, Arc::new(NoSources))
}

#[tokio::test]
async fn every_route_checks_host_origin_and_token_in_order() {
    let api = guarded();
    for (method, path) in routes() {
        let call = || Call::new(method, &path).text("no JSON at all");
        api.send(call().header("host", "evil.example").header("origin", "http://evil.example"))
            .await
            .problem(421, "host_not_allowed");
        if method != "GET" {
            api.send(call().header("origin", "http://evil.example")).await.problem(403, "forbidden_origin");
            api.send(call().header("sec-fetch-site", "cross-site")).await.problem(403, "forbidden_origin");
        }
        let refused = api.send(call()).await;
        let challenges: Vec<&str> =
            refused.headers.get_all(header::WWW_AUTHENTICATE).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(challenges, ["Bearer realm=\"pgdibs\"", "Basic realm=\"pgdibs\", charset=\"UTF-8\""], "{path}");
        refused.problem(401, "unauthorized");
        let entered = api.send(call().header("authorization", &format!("Bearer {TOKEN}"))).await;
        assert!(![401, 403, 421].contains(&entered.status.as_u16()), "{method} {path}: {entered:#?}");
    }
    assert!(api.snapshot().pools.is_empty(), "nothing was done on the way");
}

#[tokio::test]
async fn token_is_bearer_or_basic_password() {
    let api = guarded();
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    for good in [
        format!("Bearer {TOKEN}"),
        format!("bearer   {TOKEN}"),
        basic(&format!(":{TOKEN}")),
        basic(&format!("anybody:{TOKEN}")),
    ] {
        api.send(Call::new("GET", "/v1/pools").header("authorization", &good)).await.expect(200);
    }
    for bad in [
        "Bearer".to_owned(),
        "Bearer correct".to_owned(),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {}", TOKEN.to_uppercase()),
        TOKEN.to_owned(),
        basic(TOKEN),
        basic(&format!("{TOKEN}:")),
        "Basic !!!".to_owned(),
        format!("Digest {TOKEN}"),
    ] {
        api.send(Call::new("GET", "/v1/pools").header("authorization", &bad)).await.problem(401, "unauthorized");
    }
    let mut twice = Call::new("GET", "/v1/pools").header("authorization", &format!("Bearer {TOKEN}"));
    twice.headers.push(("authorization".to_owned(), "Bearer wrong".to_owned()));
    api.send(twice).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn host_must_be_loopback_or_allowed() {
    let api = TestApi::with(
        Authenticator { token: None, allowed_hosts: vec!["Dibs.example.".to_owned(), "10.1.2.3".to_owned()] },
        Arc::new(NoSources),
    );
    for good in [
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "127.0.0.1:8432",
        "127.9.9.9",
        "[::1]:8432",
        "[::ffff:127.0.0.1]",
        "dibs.EXAMPLE:80",
        "dibs.example.",
        "10.1.2.3:99",
    ] {
        api.send(Call::new("GET", "/v1/pools").header("host", good)).await.expect(200);
    }
    for bad in [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.example:localhost",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "[::2]",
        "[::1",
        "[::1]x",
        ":80",
        "10.1.2.4",
        "0.0.0.0",
        "localhost:99999",
        "localhost:+80",
        "localhost,evil.example",
    ] {
        let refused = api.send(Call::new("GET", "/v1/pools").header("host", bad)).await;
        assert!(refused.problem(421, "host_not_allowed").contains("ost"), "{bad}");
    }
    let mut twice = Call::new("GET", "/v1/pools");
    twice.headers.push(("host".to_owned(), "localhost".to_owned()));
    api.send(twice).await.problem(421, "host_not_allowed");
    api.send(Call::new("GET", "http://evil.example/v1/pools")).await.problem(421, "host_not_allowed");
}

#[tokio::test]
async fn change_from_other_origin_is_refused() {
    let api = TestApi::new();
    let delete = || Call::new("DELETE", "/v1/runs/r1");
    for good in ["http://localhost:8432", "https://localhost:8432", "http://LOCALHOST:8432"] {
        api.send(delete().header("origin", good)).await.expect(200);
    }
    for bad in ["null", "http://localhost", "http://localhost:3000", "ftp://localhost:8432", "http://evil.example"] {
        api.send(delete().header("origin", bad)).await.problem(403, "forbidden_origin");
    }
    for (site, status) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("x", 403)] {
        api.send(delete().header("sec-fetch-site", site)).await.expect(status);
    }
    let page = |host: &str, origin: &str| delete().header("host", host).header("origin", origin);
    api.send(page("localhost", "http://localhost:80")).await.expect(200);
    api.send(page("localhost:443", "https://localhost")).await.expect(200);
    api.send(page("localhost:80", "https://localhost")).await.problem(403, "forbidden_origin");
    // Reading is harmless: without CORS headers no other site can see the answer.
    let read = api.send(Call::new("GET", "/v1/pools").header("origin", "http://evil.example")).await.expect(200);
    let cors = read.headers.keys().find(|name| name.as_str().starts_with("access-control"));
    assert_eq!(cors, None);
    let preflight = Call::new("OPTIONS", "/v1/leases").header("origin", "http://evil.example");
    let refused = api.send(preflight.header("access-control-request-method", "POST")).await;
    assert!(!refused.headers.keys().any(|name| name.as_str().starts_with("access-control")));
    refused.problem(405, "method_not_allowed");
}

/// Regression: `/readyz` answered the last lines of a failed build without a token (found by a second reading).
#[tokio::test]
async fn probes_need_neither_token_nor_host() {
    let api = guarded();
    for path in ["/livez", "/healthz"] {
        let alive = api.send(Call::new("GET", path).header("host", "10.244.0.7:8432")).await.expect(200);
        assert_eq!(alive.json, json!({"status": "ok"}));
    }
    let ready = api.send(Call::new("GET", "/readyz").header("host", "")).await.expect(200);
    assert_eq!(ready.json, json!({"ready": true, "reasons": [], "warnings": []}));
    api.status.starting.store(true, std::sync::atomic::Ordering::SeqCst);
    // The output of a build needs the token.
    let unready = api.send(Call::new("GET", "/readyz")).await.expect(503);
    assert_eq!(unready.json, json!({"ready": false, "reasons": ["starting: running initdb"], "warnings": []}));
    let known = Call::new("GET", "/readyz").header("authorization", &format!("Bearer {TOKEN}"));
    let authenticated = api.send(known).await.expect(503);
    assert_eq!(authenticated.json["reasons"], json!(["starting: running initdb\nline 2 of its output"]));
    assert_eq!(authenticated.json["warnings"].as_array().unwrap().len(), 1, "it names holders, so only with the token");
    api.send(Call::new("GET", "/livez/")).await.problem(401, "unauthorized");
}
