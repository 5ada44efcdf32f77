//! A request without the token, or with a wrong one, is refused on every route of `openapi.json` and changes nothing.

use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::http::tests::operations::{PreparedApi, TOKEN, operations};
use crate::http::tests::{Call, TestApi};

/// `Authorization` headers without the right token, and what is appended to the query.
fn wrong_credentials() -> Vec<(Vec<String>, String)> {
    let basic = |text: String| format!("Basic {}", STANDARD.encode(text));
    let one = |value: String| (vec![value], String::new());
    vec![
        (vec![], String::new()),
        one("Bearer wrong".to_owned()),
        one("Bearer".to_owned()),
        one("Bearer ".to_owned()),
        one(format!("Bearer {}", &TOKEN[..TOKEN.len() - 1])),
        one(format!("Bearer {TOKEN}x")),
        one(format!("Bearer {}", TOKEN.to_uppercase())),
        one(format!("Bearer {TOKEN} {TOKEN}")),
        one(format!("Token {TOKEN}")),
        one(TOKEN.to_owned()),
        one(basic(TOKEN.to_owned())),
        one(basic(format!("{TOKEN}:"))),
        one(basic(format!("{TOKEN}:wrong"))),
        (vec![format!("Bearer {TOKEN}"), "Bearer wrong".to_owned()], String::new()),
        (vec![format!("Bearer {TOKEN}"), format!("Bearer {TOKEN}")], String::new()),
        (vec![], format!("token={TOKEN}")),
        (vec![], format!("access_token={TOKEN}")),
    ]
}

/// Everything that a request could have changed.
async fn backend_of(api: &TestApi) -> String {
    use pgdibs_core::backend::Backend as _;
    format!("{:#?} {:#?} {:#?}", api.snapshot(), api.backend.databases(), api.backend.ended_leases().await)
}

#[tokio::test]
async fn every_operation_without_token_is_refused_and_changes_nothing() {
    let mut refused = 0;
    for operation in operations().iter().filter(|operation| !operation.open) {
        let prepared = PreparedApi::new().await;
        let before = backend_of(&prepared.api).await;
        let mut said: Option<(String, Value)> = None;
        for (headers, query) in wrong_credentials() {
            let mut call = prepared.call(operation);
            if !query.is_empty() {
                call.path.push(if call.path.contains('?') { '&' } else { '?' });
                call.path.push_str(&query);
            }
            let shows_something = !headers.is_empty();
            call.headers.extend(headers.into_iter().map(|value| ("authorization".to_owned(), value)));
            let answer = prepared.api.send(call).await;
            assert_eq!(answer.status.as_u16(), 401, "{operation:?}: {answer:#?}");
            assert_eq!(answer.headers.get_all(header::WWW_AUTHENTICATE).iter().count(), 2, "{operation:?}");
            assert!(!answer.text.contains(TOKEN), "{operation:?}: {answer:#?}");
            // The same answer for each wrong token: it does not say which part was right.
            if shows_something && answer.json["detail"].as_str().is_some_and(|detail| detail.contains("wrong")) {
                let first = said.get_or_insert_with(|| (answer.text.clone(), answer.json.clone()));
                assert_eq!(answer.text, first.0);
            }
            refused += 1;
        }
        assert_eq!(backend_of(&prepared.api).await, before, "{operation:?} changed something without the token");
        let entered = prepared.send(operation).await;
        assert!(
            entered.status.is_success(),
            "with the token it would have done something: {operation:?}: {entered:#?}"
        );
    }
    assert!(refused >= 26 * 17, "{refused}");
}

#[tokio::test]
async fn operations_without_token_are_the_probes() {
    let open: Vec<String> = operations().into_iter().filter(|op| op.open).map(|op| op.path).collect();
    assert_eq!(open, ["/healthz", "/livez", "/readyz"]);
}

/// Regression: a page of another site, refused each time, kept a daemon alive that ends when it is idle (found by a second reading).
#[tokio::test]
async fn unauthenticated_request_does_not_count_as_activity() {
    let prepared = PreparedApi::new().await;
    let api = &prepared.api;
    let pools = || Call::new("GET", "/v1/pools");
    let lasted = api.activity.idle_for();
    api.send(pools()).await.expect(401);
    api.send(pools().header("host", "evil.example")).await.expect(421);
    api.send(Call::new("DELETE", "/v1/runs/r").header("origin", "http://evil.example")).await.expect(403);
    api.send(Call::new("GET", "/livez")).await.expect(200);
    assert!(api.activity.idle_for() >= lasted, "it stays quiet");
    let before = std::time::Instant::now();
    api.send(pools().header("authorization", &format!("Bearer {TOKEN}"))).await.expect(200);
    assert!(api.activity.idle_for() <= before.elapsed(), "this one counts");
}
