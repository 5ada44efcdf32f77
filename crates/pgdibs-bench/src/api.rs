//! The API of the daemon under the benchmark, through the client library; every unexpected response is an error.

use std::time::{Duration, Instant};

use pgdibs::{Client, Method};
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::session;

/// The pool that most measurements use.
pub(crate) const POOL: &str = "bench";

/// The pool whose returns load the server while another pool is measured.
pub(crate) const POOL_BEHIND: &str = "bench_behind";

/// The pool with one slot, for which many callers wait.
pub(crate) const POOL_OF_ONE: &str = "bench_of_one";

/// The pool whose size grows to a thousand.
pub(crate) const POOL_OF_MANY: &str = "bench_of_many";

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
    /// The digest of its template, which each of its databases must have.
    pub(crate) digest: String,
}

impl Api {
    pub(crate) fn new(url: &str) -> Result<Self, BenchError> {
        Ok(Self { client: Client::builder(url).build()?, pool: POOL, digest: String::new() })
    }

    /// Another pool of the same daemon, without a template yet.
    pub(crate) fn with_pool(&self, pool: &'static str) -> Self {
        Self { client: self.client.clone(), pool, digest: String::new() }
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

    /// The pool as it is.
    pub(crate) async fn read(&self) -> Result<Value, BenchError> {
        self.call(Method::GET, &self.path(), None).await
    }

    /// Waits until the pool is full and nothing is being cloned or dropped. Up to `max` it may have more than `warm` databases after a peak.
    pub(crate) async fn wait_until_idle(&self, size: Size) -> Result<(), BenchError> {
        let idle = |counts: &Value| {
            let count = |state: &str| counts[state].as_u64().unwrap_or(0);
            let full = count("ready") >= u64::from(size.warm) && count("spare") >= u64::from(size.spares);
            full && count("ready") <= u64::from(size.max) && count("creating") == 0 && count("retiring") == 0
        };
        match self.wait(POLL, idle).await? {
            None => Ok(()),
            Some(counts) => {
                let timeout = TIMEOUT.as_secs();
                Err(BenchError::Answer(format!("with a pool that is not idle after {timeout} s: {counts}")))
            }
        }
    }

    /// Waits until so many databases are ready, or for two minutes; returns how many there are. Polls rarely, because the status of a
    /// large pool takes processor time from the clones.
    pub(crate) async fn wait_for_ready(&self, ready: u32) -> Result<u32, BenchError> {
        let count = |counts: &Value| counts["ready"].as_u64().unwrap_or(0);
        match self.wait(POLL * 50, |counts| count(counts) >= u64::from(ready)).await? {
            None => Ok(ready),
            Some(counts) => Ok(u32::try_from(count(&counts)).unwrap_or(ready)),
        }
    }

    /// Waits until so many callers wait for the pool.
    pub(crate) async fn wait_for_waiters(&self, waiters: usize) -> Result<(), BenchError> {
        match self.wait(POLL, |counts| counts["waiting"].as_u64().unwrap_or(0) >= waiters as u64).await? {
            None => Ok(()),
            Some(counts) => Err(BenchError::Answer(format!("with fewer than {waiters} waiters: {counts}"))),
        }
    }

    /// Polls the pool's counts; returns them if they are not as wanted in time.
    async fn wait(&self, poll: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Option<Value>, BenchError> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut pool = self.read().await?;
            let counts = pool["counts"].take();
            if wanted(&counts) {
                return Ok(None);
            }
            if Instant::now() > deadline {
                return Ok(Some(counts));
            }
            tokio::time::sleep(poll).await;
        }
    }

    /// Drops the pool and all its databases, and waits until they are gone.
    pub(crate) async fn delete(&self) -> Result<(), BenchError> {
        self.call(Method::DELETE, &format!("{}?force=true", self.path()), None).await?;
        let deadline = Instant::now() + TIMEOUT;
        while self.call(Method::GET, &self.path(), None).await.is_ok() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The most databases that may be ready at once on this server, and no more than this.
    pub(crate) async fn most_ready(&self, wanted: u32, database_bytes: u64) -> Result<u32, BenchError> {
        let status = self.call(Method::GET, "/v1/status", None).await?;
        let limits = &status["server"]["limits"];
        let slots = limits["slots_by_connections"].as_u64().unwrap_or(u64::MAX);
        // Half of the free space, of which the server needs some for its log.
        let disk = limits["free_disk_bytes"].as_u64().map_or(u64::MAX, |free| free / 2 / database_bytes.max(1));
        Ok(u32::try_from(slots.min(disk)).unwrap_or(u32::MAX).min(wanted))
    }

    /// Compares the database of a lease with the template.
    pub(crate) async fn expect_clean(&self, lease: &Lease) -> Result<(), BenchError> {
        session::expect_clean(&lease.url, &lease.database, &self.digest).await
    }

    /// Compares each database with the template, and returns it.
    pub(crate) async fn check_and_release(&self, leases: &[Lease]) -> Result<(), BenchError> {
        for lease in leases {
            self.expect_clean(lease).await?;
            self.release(lease).await?;
        }
        Ok(())
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
