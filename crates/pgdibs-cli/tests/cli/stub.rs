//! A scripted daemon: answers as the test defines and records the requests.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::response::Response;
use pgdibs_testing::examples::Example;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A recorded request.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    /// `POST /v1/leases?x=y`.
    pub(crate) what: String,
    /// Null without a body.
    pub(crate) body: Value,
    /// The `Authorization` header.
    pub(crate) authorization: String,
    /// The `Last-Event-ID` header.
    pub(crate) last_event_id: String,
}

/// An answer.
pub(crate) enum Reply {
    /// Status and body.
    Json(u16, Value),
    /// A problem with status, code, detail and perhaps `Retry-After`.
    Problem(u16, &'static str, &'static str, Option<u32>),
    /// Server-sent events; the answer ends after them.
    Events(String),
    /// No answer.
    Never,
}

type Script = dyn Fn(&ReceivedRequest, usize) -> Reply + Send + Sync;

#[derive(Default)]
struct Memory {
    received: Mutex<Vec<ReceivedRequest>>,
    more: Condvar,
}

/// The daemon; it ends on drop.
pub(crate) struct Stub {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    memory: Arc<Memory>,
    _runtime: Runtime,
}

impl Stub {
    /// Starts it. The script gets the request and the number of equal requests before it.
    pub(crate) fn start(script: impl Fn(&ReceivedRequest, usize) -> Reply + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let memory = Arc::new(Memory::default());
        let script: Arc<Script> = Arc::new(script);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let recorded = Arc::clone(&memory);
        let router =
            Router::new().fallback(move |request: Request| answer(request, Arc::clone(&recorded), Arc::clone(&script)));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, memory, _runtime: runtime }
    }

    /// All requests, in order.
    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.memory.received.lock().unwrap().clone()
    }

    /// Method and path of all requests.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.received().into_iter().map(|received| received.what).collect()
    }

    /// Waits until this request was received so many times.
    pub(crate) fn wait_for(&self, what: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut received = self.memory.received.lock().unwrap();
        while received.iter().filter(|received| received.what == what).count() < times {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "`{what}` was not received {times} times within 30 s: {:?}", *received);
            received = self.memory.more.wait_timeout(received, left).unwrap().0;
        }
    }
}

async fn answer(request: Request, memory: Arc<Memory>, script: Arc<Script>) -> Response {
    let (head, body) = request.into_parts();
    let body: Bytes = to_bytes(body, 1 << 20).await.unwrap();
    let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let received = ReceivedRequest {
        what: format!("{} {}", head.method, head.uri),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        authorization: header(AUTHORIZATION.as_str()),
        last_event_id: header("last-event-id"),
    };
    let before = {
        let mut all = memory.received.lock().unwrap();
        all.push(received.clone());
        memory.more.notify_all();
        all.iter().filter(|other| other.what == received.what).count() - 1
    };
    match script(&received, before) {
        Reply::Json(status, Value::Null) => Response::builder().status(status).body(axum::body::Body::empty()).unwrap(),
        Reply::Json(status, body) => Response::builder()
            .status(status)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string().into())
            .unwrap(),
        Reply::Problem(status, code, detail, retry_after) => {
            let body = json!({"type": "about:blank", "title": "no", "status": status, "code": code, "detail": detail});
            let mut response = Response::builder().status(status).header(CONTENT_TYPE, "application/problem+json");
            if let Some(seconds) = retry_after {
                response = response.header(RETRY_AFTER, seconds);
            }
            response.body(body.to_string().into()).unwrap()
        }
        Reply::Events(text) => Response::builder().header(CONTENT_TYPE, "text/event-stream").body(text.into()).unwrap(),
        Reply::Never => std::future::pending().await,
    }
}

/// What `pgdibs run` writes to standard error about [`lease`]`(0, …)`.
pub(crate) const LEASED: &str = "pgdibs: leased shop_test_gw0, cloned from template v1\n";

/// A lease of slot `slot` as the API has it; its login is `user`.
pub(crate) fn lease(slot: u32, user: &str, renew_after_seconds: f64) -> Value {
    Example::Lease.with(&json!({
        "id": format!("0192f000-0000-7000-8000-00000000000{slot}"), "pool": "shop_test",
        "database": format!("shop_test_gw{slot}"), "slot": slot, "host": "127.0.0.1", "port": 54321,
        "user": user, "password": "s3cr3t",
        "url": format!("postgresql://{user}:s3cr3t@127.0.0.1:54321/shop_test_gw{slot}"),
        "generation": 1, "ttl_seconds": 60, "renew_after_seconds": renew_after_seconds,
    }))
}

/// `GET /v1/pools` with pools of these names.
pub(crate) fn pools(names: &[&str]) -> Value {
    json!({"pools": names.iter().map(|name| Example::Pool.with(&json!({"pool": name}))).collect::<Vec<_>>()})
}
