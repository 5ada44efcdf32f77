//! The API of the daemon under the benchmark, through the client library; every unexpected response is an error.

use std::time::{Duration, Instant};

use pgdibs::{Client, Method};
use serde_json::{Value, json};

use crate::error::BenchError;

/// The pool that most measurements use.
pub(crate) const POOL: &str = "bench";

/// The pool whose returns load the server while another pool is measured.
pub(crate) const POOL_BEHIND: &str = "bench_behind";

/// The pool with one slot, for which many callers wait.
pub(crate) const POOL_OF_ONE: &str = "bench_of_one";

/// How long an acquire waits, at most.
const WAIT: Duration = Duration::from_secs(60);

/// The timeout of a request, and that for an idle pool: cloning a thousand databases takes a minute.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The interval at which the pool is polled; nothing is measured at that time.
const POLL: Duration = Duration::from_millis(10);

/// The settings of the pool's size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) warm: u32,
    pub(crate) max: u32,
    pub(crate) spares: u32,
}

/// The fields of a lease that the benchmark uses.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) database: String,
    pub(crate) user: String,
}

/// A pool of one daemon. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client,
    pub(crate) pool: &'static str,
}

impl Api {
    pub(crate) fn new(url: &str) -> Result<Self, BenchError> {
        Ok(Self { client: Client::builder(url).build()?, pool: POOL })
    }

    /// Another pool of the same daemon.
    pub(crate) fn with_pool(&self, pool: &'static str) -> Self {
        Self { client: self.client.clone(), pool }
    }

    /// Sends one request, without retries.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, BenchError> {
        let response = self.client.call(method.clone(), path, body, TIMEOUT).await?;
        response.value().map_err(|error| BenchError::Answer(format!("{method} {path} without JSON: {error}")))
    }

    /// The path of the pool.
    pub(crate) fn path(&self) -> String {
        format!("/v1/pools/{}", self.pool)
    }

    pub(crate) async fn resize(&self, size: Size) -> Result<(), BenchError> {
        let body = json!({"warm": size.warm, "max": size.max, "spares": size.spares});
        self.call(Method::PUT, &self.path(), Some(&body)).await.map(|_| ())
    }

    /// Waits until the pool is full and nothing is being cloned or dropped. It may have more than `warm` databases after a peak.
    pub(crate) async fn wait_until_idle(&self, size: Size) -> Result<(), BenchError> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let pool = self.call(Method::GET, &self.path(), None).await?;
            let count = |state: &str| pool["counts"][state].as_u64().unwrap_or(0);
            let full = count("ready") >= u64::from(size.warm) && count("spare") >= u64::from(size.spares);
            if full && count("creating") == 0 && count("retiring") == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(BenchError::Answer(format!(
                    "with a pool that is not idle after {} s: {}",
                    TIMEOUT.as_secs(),
                    pool["counts"]
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until so many callers wait for the pool.
    pub(crate) async fn wait_for_waiters(&self, waiters: usize) -> Result<(), BenchError> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let pool = self.call(Method::GET, &self.path(), None).await?;
            let waiting = pool["counts"]["waiting"].as_u64().unwrap_or(0);
            if waiting >= waiters as u64 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(BenchError::Answer(format!("with {waiting} waiters instead of {waiters}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Acquires a lease, waiting if necessary.
    pub(crate) async fn acquire(&self, worker: Option<&str>) -> Result<Lease, BenchError> {
        let mut body = json!({"pool": self.pool, "wait_seconds": WAIT.as_secs(), "holder": "pgdibs-bench"});
        if let Some(worker) = worker {
            body["worker"] = json!(worker);
        }
        let lease = self.call(Method::POST, "/v1/leases", Some(&body)).await?;
        let text = |field: &str| {
            let text = lease[field].as_str().map(str::to_owned);
            text.ok_or_else(|| BenchError::Answer(format!("POST /v1/leases without {field}")))
        };
        Ok(Lease { id: text("id")?, url: text("url")?, database: text("database")?, user: text("user")? })
    }

    pub(crate) async fn release(&self, lease: &Lease) -> Result<(), BenchError> {
        self.call(Method::DELETE, &format!("/v1/leases/{}", lease.id), None).await.map(|_| ())
    }
}
