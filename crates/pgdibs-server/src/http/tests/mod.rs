//! HTTP on the fake backend: the harness, and the tests that concern every resource.

mod configured_only;
mod golden;
pub(super) mod operations;
mod shortages;
pub(super) mod sockets;
mod waiter_limit;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use pgdibs_api::level::API_LEVEL;
use pgdibs_api::status::{Daemon, Finding, FindingSeverity, Reconciler, StepReport};
use pgdibs_api::time::rfc3339;
use pgdibs_core::backend::Backend;
use pgdibs_core::lease::Credentials;
use pgdibs_core::pool::LoginRights;
use pgdibs_core::snapshot::{PlannerContext, Snapshot};
use pgdibs_core::template::Timestamp;
use pgdibs_testing::conformance::idle::run_until_idle;
use pgdibs_testing::fake::FakeBackend;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::{Activity, Authenticator, Bounds, ServerStatus, StatusSource, router};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::service::wait_queue::WaitQueue;
use crate::service::{Address, NoSources, Service, Sources};

/// A request in the making.
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Call {
    pub(super) fn new(method: &'static str, path: impl Into<String>) -> Self {
        let headers = vec![("host".to_owned(), "localhost:8432".to_owned())];
        Self { method, path: path.into(), headers, body: Vec::new() }
    }

    /// Replaces a header; an empty value removes it.
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(super) fn json(self, body: &Value) -> Self {
        self.text(&body.to_string())
    }

    pub(super) fn text(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self.header("content-type", "application/json")
    }

    pub(super) fn request(self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Body::from(self.body)).unwrap()
    }
}

/// A response that was read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    /// `null` when there is no body or it is no JSON.
    pub(super) json: Value,
}

impl Answer {
    /// The status, or a panic with the whole answer.
    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:#?}");
        self
    }

    /// A problem with exactly this status and code, complete as in RFC 9457; returns its detail.
    #[track_caller]
    pub(super) fn problem(self, status: u16, code: &str) -> String {
        assert_eq!((self.status.as_u16(), self.json["code"].as_str()), (status, Some(code)), "{self:#?}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.json["status"], status, "{self:#?}");
        assert_eq!(self.json["type"], format!("urn:pgdibs:problem:{code}"));
        assert!(self.json["title"].as_str().is_some_and(|title| !title.is_empty()), "{self:#?}");
        assert_eq!(self.headers.contains_key(header::RETRY_AFTER), status == 503, "{self:#?}");
        let detail = self.json["detail"].as_str().unwrap_or_default().to_owned();
        assert!(!detail.is_empty(), "{self:#?}");
        detail
    }
}

/// The status of a daemon.
#[derive(Default)]
pub(super) struct TestStatus {
    pub(super) panics: AtomicBool,
    pub(super) starting: AtomicBool,
}

impl StatusSource for TestStatus {
    fn daemon(&self) -> Daemon {
        assert!(!self.panics.load(Ordering::SeqCst), "a bug in a handler");
        let reasons = self.unready();
        Daemon {
            version: "0.1.0".to_owned(),
            api_level: API_LEVEL,
            instance: "test-instance".to_owned(),
            started_at: rfc3339(Timestamp(1_700_000_000_000_000)),
            uptime_seconds: 1.5,
            reconciling: true,
            ready: reasons.is_empty(),
            reasons,
        }
    }

    fn server(&self) -> ServerStatus {
        ServerStatus {
            version: Some("15.8".to_owned()),
            warnings: vec!["max_connections is low".to_owned()],
            findings: vec![Finding {
                check: "fsync".to_owned(),
                severity: FindingSeverity::Warning,
                title: "fsync = on, where a server for tests wants off".to_owned(),
                fix: Some("alter system set fsync = 'off'; select pg_reload_conf()".to_owned()),
            }],
            orphans: Some(vec![16_999]),
        }
    }

    fn reconciler(&self) -> Reconciler {
        Reconciler {
            planned_at: Some(rfc3339(Timestamp(1_700_000_001_000_000))),
            plan: vec!["clone 7".to_owned()],
            report: vec![StepReport {
                step: "drop 3".to_owned(),
                took_seconds: 0.012,
                error: Some("the server said no".to_owned()),
            }],
        }
    }

    fn delays(&self) -> Vec<String> {
        vec!["no database of pool \"app\" is free".to_owned()]
    }

    fn unready(&self) -> Vec<String> {
        if self.starting.load(Ordering::SeqCst) {
            vec!["starting: running initdb\nline 2 of its output".to_owned()]
        } else {
            Vec::new()
        }
    }
}

/// The api with a driver behind it.
pub(super) struct TestApi {
    pub(super) backend: FakeBackend,
    pub(super) wait_queue: Arc<WaitQueue>,
    pub(super) stopping: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) service: Service<FakeBackend>,
    pub(super) router: Router,
    pub(super) status: Arc<TestStatus>,
    pub(super) stage: watch::Sender<Option<Service<FakeBackend>>>,
    pub(super) activity: Arc<Activity>,
}

impl Drop for TestApi {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

impl TestApi {
    pub(super) fn new() -> Self {
        Self::with(Authenticator::default(), Arc::new(NoSources))
    }

    pub(super) fn with(authenticator: Authenticator, sources: Arc<dyn Sources>) -> Self {
        Self::with_waiter_limit(authenticator, sources, 1000)
    }

    /// With at most so many waiters.
    pub(super) fn with_waiter_limit(
        authenticator: Authenticator,
        sources: Arc<dyn Sources>,
        waiter_limit: usize,
    ) -> Self {
        let backend = FakeBackend::new();
        let address = |host: &str, port| Address { host: host.to_owned(), port, tls: String::new() };
        let addresses = BTreeMap::from([
            ("default".to_owned(), address("127.0.0.1", 5432)),
            ("compose".to_owned(), address("fd00::5", 6000)),
        ]);
        let wait_queue = Arc::new(WaitQueue::default());
        let metrics = Arc::new(Metrics::default());
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        tokio::spawn(reconcile(backend.clone(), Arc::clone(&wait_queue), stopping.clone()));
        let service = Service::new(
            Arc::new(backend.clone()),
            Arc::clone(&wait_queue),
            sources,
            addresses,
            waiter_limit,
            stopping.clone(),
            tasks.clone(),
        )
        .with_max_login(LoginRights::CreateDb)
        .with_events(Arc::new(Events::of(0).counted_by(Arc::clone(&metrics))))
        .with_metrics(Arc::clone(&metrics));
        let status = Arc::new(TestStatus::default());
        let stage = watch::Sender::new(Some(service.clone()));
        let activity = Arc::new(Activity::from_now());
        let router =
            router(stage.subscribe(), status.clone(), authenticator, Arc::clone(&activity), Arc::clone(&metrics));
        Self { backend, wait_queue, stopping, tasks, service, router, status, stage, activity }
    }

    pub(super) async fn send(&self, call: Call) -> Answer {
        answer(&self.router, call).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Call::new("GET", path)).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Call::new("POST", path).json(&body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Call::new("PUT", path).json(&body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.send(Call::new("DELETE", path)).await
    }

    /// A pool `app` with template `v1`, over HTTP from the first call to the last.
    pub(super) async fn ready_pool(&self, warm: u32, max: u32, spares: u32) {
        self.put("/v1/pools/app", json!({"warm": warm, "max": max, "spares": spares})).await.expect(201);
        self.build("v1").await;
        self.until("the pool is warm", |api| {
            api.count("ready") >= warm as usize && api.count("spare") >= spares as usize
        })
        .await;
    }

    /// Builds a template of pool `app` and returns the token.
    pub(super) async fn build(&self, fingerprint: &str) -> String {
        self.build_in("app", fingerprint).await
    }

    /// Builds a template and returns the token.
    pub(super) async fn build_in(&self, pool: &str, fingerprint: &str) -> String {
        let path = format!("/v1/pools/{pool}/templates/{fingerprint}");
        let begun = self.put(&path, json!({"holder": "builder"})).await.expect(201);
        let token = begun.json["build"]["token"].as_str().unwrap().to_owned();
        let sealed = self.post(&format!("{path}/seal"), json!({"token": token})).await.expect(200);
        assert_eq!(sealed.json["state"], "ready");
        token
    }

    /// Takes a lease from `app` and returns it.
    pub(super) async fn take(&self, body: Value) -> Value {
        let mut acquire_request = json!({"pool": "app"});
        acquire_request.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        self.post("/v1/leases", acquire_request).await.expect(201).json
    }

    /// A snapshot of the fake backend, whose futures are ready at once.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut taking = std::pin::pin!(self.backend.take_snapshot());
        match taking.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(snapshot) => snapshot.unwrap(),
            std::task::Poll::Pending => panic!("the fake answers at once"),
        }
    }

    pub(super) fn count(&self, state: &str) -> usize {
        self.snapshot().databases.iter().filter(|database| database.state.as_str() == state).count()
    }

    /// Polls until something holds, ten seconds at most.
    #[track_caller]
    pub(super) fn until(&self, what: &'static str, holds: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !holds(self) {
                assert!(Instant::now() < deadline, "not within 10 s: {what} ({at}): {:#?}", self.snapshot());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// Serves on a socket until the api is dropped.
    pub(super) async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds::with_connections(2000);
        tokio::spawn(super::serve(bounds, listener, self.router.clone(), self.stopping.clone()));
        address
    }
}

/// The path of a call on a lease.
pub(super) fn lease_path(lease: &Value, verb: &str) -> String {
    format!("/v1/leases/{}{verb}", lease["id"].as_str().unwrap())
}

/// Connects with the credentials of a lease.
pub(super) fn connect(api: &TestApi, lease: &Value) -> Result<pgdibs_testing::fake::Session, String> {
    let text = |field: &str| lease[field].as_str().unwrap();
    api.backend.connect(&credentials(text("user"), text("password")), text("database"))
}

pub(super) fn credentials(user: &str, password: &str) -> Credentials {
    Credentials { user: user.to_owned(), password: password.into() }
}

/// What a router answers.
pub(super) async fn answer(router: &Router, call: Call) -> Answer {
    let response = router.clone().oneshot(call.request()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let json = serde_json::from_str(&text).unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, text, json }
}

/// The reconciler without its timers: acts whenever it is woken.
async fn reconcile(backend: FakeBackend, wait_queue: Arc<WaitQueue>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = wait_queue.reconciler_woken() => {}
            () = wait_queue.reconciler_woken_soon() => {}
            () = stopping.cancelled() => return,
        }
        let context = PlannerContext { max_ttl: Duration::from_secs(3600), ..PlannerContext::default() };
        run_until_idle(&backend, &context).await;
        wait_queue.wake_all();
    }
}
