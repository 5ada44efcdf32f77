//! What every response carries, also after a panic.

use std::sync::atomic::Ordering;

use axum::http::header;
use pgdibs_api::level::API_LEVEL;

use crate::http::tests::operations::routes;
use crate::http::tests::{Call, TestApi};

#[tokio::test]
async fn panic_is_500_without_its_cause() {
    let api = TestApi::new();
    api.status.panics.store(true, Ordering::SeqCst);
    let answer = api.send(Call::new("GET", "/v1/status").header("x-request-id", "r-1")).await;
    assert_eq!(answer.headers["x-request-id"], "r-1");
    assert_eq!(answer.headers["pgdibs-api"], API_LEVEL.to_string());
    assert!(!answer.text.contains("a bug in a handler"), "{answer:#?}");
    answer.problem(500, "internal");
    api.get("/v1/pools").await.expect(200);
}

#[tokio::test]
async fn every_response_has_level_request_id_and_no_store() {
    let api = TestApi::new();
    for (method, path) in routes() {
        let answer = api.send(Call::new(method, &path)).await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(uuid::Uuid::parse_str(&id).is_ok(), "{path}: {id}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(answer.headers["pgdibs-api"], API_LEVEL.to_string(), "{path}");
    }
    let echoed = api.send(Call::new("GET", "/livez").header("x-request-id", "ci-7/a.b:c_1=@+")).await;
    assert_eq!(echoed.headers["x-request-id"], "ci-7/a.b:c_1=@+");
    for insane in ["a b", "x\ty", "\"", &"x".repeat(129)] {
        let answer = api.send(Call::new("GET", "/livez").header("x-request-id", insane)).await;
        assert_ne!(answer.headers["x-request-id"], insane);
    }
}
