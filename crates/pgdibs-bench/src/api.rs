//! The daemon under the benchmark, by the client library: kept-alive connections, and every unexpected answer an error.

use std::time::{Duration, Instant};

use pgdibs::{Client, Method};
use serde_json::{Value, json};

use crate::error::BenchError;

/// The pool of the benchmark.
pub(crate) const POOL: &str = "bench";

/// Longest wait for the pool to come to rest, or for a lease.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at the pool: each look costs the daemon one, and nothing is being measured meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How large the pool is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) warm: u32,
    pub(crate) max: u32,
    pub(crate) spares: u32,
}

/// A lease, as far as the benchmark is concerned.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) database: String,
    pub(crate) user: String,
}

/// One daemon. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Api(Client);

impl Api {
    pub(crate) fn new(url: &str) -> Result<Self, BenchError> {
        Ok(Self(Client::builder(url).build()?))
    }

    /// One call, never tried again.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, BenchError> {
        let response = self.0.call(method.clone(), path, body, PATIENCE).await?;
        response.value().map_err(|error| BenchError::Answer(format!("{method} {path} with no JSON: {error}")))
    }

    /// Sets the pool's size.
    pub(crate) async fn resize(&self, size: Size) -> Result<(), BenchError> {
        let body = json!({"warm": size.warm, "max": size.max, "spares": size.spares});
        self.call(Method::PUT, &format!("/v1/pools/{POOL}"), Some(&body)).await.map(|_| ())
    }

    /// Waits until the pool is full and nothing is being cloned or dropped. It may hold more than `warm`: a recent peak is remembered.
    pub(crate) async fn rest(&self, size: Size) -> Result<(), BenchError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pool = self.call(Method::GET, &format!("/v1/pools/{POOL}"), None).await?;
            let count = |state: &str| pool["counts"][state].as_u64().unwrap_or(0);
            let full = count("ready") >= u64::from(size.warm) && count("spare") >= u64::from(size.spares);
            if full && count("creating") == 0 && count("retiring") == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(BenchError::Answer(format!(
                    "for 30 s with a pool that does not come to rest: {}",
                    pool["counts"]
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Acquires, waiting if need be.
    pub(crate) async fn acquire(&self, worker: Option<&str>) -> Result<Lease, BenchError> {
        let mut body = json!({"pool": POOL, "wait_seconds": PATIENCE.as_secs(), "holder": "pgdibs-bench"});
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

    /// Releases.
    pub(crate) async fn release(&self, lease: &Lease) -> Result<(), BenchError> {
        self.call(Method::DELETE, &format!("/v1/leases/{}", lease.id), None).await.map(|_| ())
    }
}
