//! What a caller asks for: a database of a pool, for a worker of a run.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// A request for one lease.
#[derive(Debug, Clone)]
pub struct Acquire {
    fields: Map<String, Value>,
    wait: Duration,
}

impl Acquire {
    /// A database of `pool`, waited for at most 60 s.
    #[must_use]
    pub fn new(pool: impl Into<String>) -> Self {
        Self { fields: Map::from_iter([("pool".to_owned(), json!(pool.into()))]), wait: Duration::from_secs(60) }
    }

    fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// The template with this fingerprint; without one that of the run, else the pool's current one.
    #[must_use]
    pub fn fingerprint(self, fingerprint: impl Into<String>) -> Self {
        self.with("fingerprint", fingerprint.into())
    }

    /// The run that the lease belongs to. Run, worker and alias are the key: the same key gets the same lease again.
    #[must_use]
    pub fn run(self, run: impl Into<String>) -> Self {
        self.with("run", run.into())
    }

    /// The worker; `gw3` gets slot 3 when it is free.
    #[must_use]
    pub fn worker(self, worker: impl Into<String>) -> Self {
        self.with("worker", worker.into())
    }

    /// Which of the worker's databases it is.
    #[must_use]
    pub fn alias(self, alias: impl Into<String>) -> Self {
        self.with("alias", alias.into())
    }

    /// Free text about the caller, for people who look at the status.
    #[must_use]
    pub fn holder(self, holder: impl Into<String>) -> Self {
        self.with("holder", holder.into())
    }

    /// How long the lease lives without a renewal; 60 s unless set.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with("ttl_seconds", ttl.as_secs())
    }

    /// The advertised address to hand out.
    #[must_use]
    pub fn via(self, via: impl Into<String>) -> Self {
        self.with("via", via.into())
    }

    /// How long to wait when no database is ready.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// How long the caller waits.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.wait
    }

    /// The request with the seconds that are left.
    pub(crate) fn body(&self, wait_seconds: f64) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("wait_seconds".to_owned(), json!(wait_seconds));
        Value::Object(fields)
    }
}
