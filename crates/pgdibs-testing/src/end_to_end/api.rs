//! An HTTP client.

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use pgdibs::{Client, Method};
use serde_json::{Value, json};

use crate::logs::keep_text;
use crate::session::Session;
use crate::wait::{block, until};

/// The pages of a daemon, which must not contain secrets.
const PAGES: [&str; 8] = [
    "/v1/status",
    "/metrics",
    "/readyz",
    "/v1/pools",
    "/v1/leases?state=all",
    "/v1/databases",
    "/v1/pools/unknown",
    "/v1/events?follow=false",
];

/// The address of a daemon; it can change at a restart.
#[derive(Clone)]
pub struct Api {
    url: Arc<RwLock<String>>,
    token: Option<String>,
    patience: Duration,
    client: Arc<Mutex<Option<Client>>>,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub retry_after: Option<Duration>,
    pub content_type: String,
}

impl Answer {
    /// The body; the status must be this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The detail of an error with this status and code. Retry-After is set exactly for 503.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> String {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.retry_after.is_some(), status == 503, "{:?} {}", self.retry_after, self.body);
        assert_eq!(self.content_type, "application/problem+json");
        self.body["detail"].as_str().unwrap().to_owned()
    }
}

impl Api {
    pub fn new(url: &str) -> Self {
        Self {
            url: Arc::new(RwLock::new(url.to_owned())),
            token: None,
            patience: Duration::from_secs(90),
            client: Arc::default(),
        }
    }

    /// The same with a timeout.
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, client: Arc::default(), ..self.clone() }
    }

    /// Each call has a separate connection, so that the client does not repeat a call on a connection to a killed daemon.
    fn client(&self) -> Client {
        let url = self.url();
        let mut client = self.client.lock().unwrap();
        match &*client {
            Some(client) if client.url() == url => client.clone(),
            _ => {
                let token = self.token.clone().map(Into::into);
                let builder = Client::builder(url).token(token).timeout(self.patience).reuse_connections(false);
                client.insert(builder.build().unwrap()).clone()
            }
        }
    }

    pub fn url(&self) -> String {
        self.url.read().unwrap().clone()
    }

    /// Sets the token of later calls.
    pub fn present(&mut self, token: &str) {
        self.token = Some(token.to_owned());
        self.client = Arc::default();
    }

    /// Sets the address of later calls.
    pub fn moved_to(&self, other: &Self) {
        *self.url.write().unwrap() = other.url();
    }

    /// The response, or the connection error.
    pub fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let client = self.client();
        block(async {
            let response =
                client.send(method, path, body, Duration::ZERO).await.map_err(|error| format!("{error:?}"))?;
            let text = String::from_utf8_lossy(response.bytes()).into_owned();
            let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
            let (status, retry_after) = (response.status, response.retry_after);
            Ok(Answer { status, body, retry_after, content_type: response.content_type })
        })
    }

    #[track_caller]
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        match self.try_call(method.clone(), path, body) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None)
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PUT, path, Some(body))
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None)
    }

    /// Creates a pool and builds its first template from SQL over HTTP.
    #[track_caller]
    pub fn make_pool(&self, pool: &str, settings: &Value, sql: &str) {
        self.put(&format!("/v1/pools/{pool}"), settings).expect(201);
        self.build(pool, "first", sql);
    }

    /// Builds a template from SQL over HTTP.
    #[track_caller]
    pub fn build(&self, pool: &str, fingerprint: &str, sql: &str) {
        let path = format!("/v1/pools/{pool}/templates/{fingerprint}");
        let build = self.put(&path, &json!({"holder": "a test"})).expect(201)["build"].clone();
        let mut builder = Session::open(build["url"].as_str().unwrap());
        builder.run(sql);
        drop(builder);
        let sealed = self.post(&format!("{path}/seal"), &json!({"token": build["token"]})).expect(200);
        assert_eq!(sealed["state"], "ready", "{sealed}");
    }

    /// Acquires a new lease.
    #[track_caller]
    pub fn lease(&self, body: &Value) -> Value {
        self.post("/v1/leases", body).expect(201)
    }

    #[track_caller]
    pub fn release(&self, lease: &Value) {
        let answer = self.delete(&format!("/v1/leases/{}", lease["id"].as_str().unwrap()));
        assert_eq!(answer.status, 204, "{}", answer.body);
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.get("/v1/status").expect(200)
    }

    #[track_caller]
    pub fn pool(&self, pool: &str) -> Value {
        self.get(&format!("/v1/pools/{pool}")).expect(200)
    }

    /// Waits until the pool has these counts; missing ones are ignored.
    #[track_caller]
    pub fn until_counts(&self, pool: &str, wanted: &Value) {
        until(&format!("counts of {pool} {wanted}"), || {
            let seen = self.pool(pool)["counts"].clone();
            let right = wanted.as_object().unwrap().iter().all(|(name, count)| &seen[name] == count);
            if right { Ok(()) } else { Err(seen.to_string()) }
        });
    }

    /// Waits until this many requests wait.
    #[track_caller]
    pub fn until_waiting(&self, pool: &str, count: u64) {
        self.until_counts(pool, &json!({"waiting": count}));
    }

    /// Copies the daemon's pages for the search for secrets.
    pub fn keep_pages(&self) {
        let lines = PAGES.map(|page| match self.try_call(Method::GET, page, None) {
            Ok(answer) => format!("GET {page}: {} {}\n", answer.status, answer.body),
            Err(error) => format!("GET {page}: {error}\n"),
        });
        keep_text("pages", &lines.concat());
    }
}
