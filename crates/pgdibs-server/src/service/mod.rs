//! The service: what the daemon does for a caller, between HTTP and the catalog. It wakes whom each change concerns.

pub mod acquire;
mod missing_pool;
mod refused_pools;
mod requests;
mod reset;
pub mod shortages;
pub mod template;
pub mod wait_queue;
pub mod waiter;
mod waiter_limit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::{Fingerprint, InvalidName, PoolName};
use pgdibs_core::pool::LoginRights;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::refused_pools::RefusedPools;
use self::wait_queue::WaitQueue;
use self::waiter::Waiter;
use self::waiter_limit::WaiterLimit;
pub use self::waiter_limit::WaiterPermit;
use crate::events::Events;
use crate::metrics::Metrics;

/// An address of the server as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The query of a URL that makes clients use TLS as the daemon does; empty without TLS.
    pub tls: String,
}

/// The template that a pool with a source of its own wants at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// The pool has no source here; callers name fingerprints.
    NoSource,
    /// This fingerprint; it is built, being built, or about to be.
    Fingerprint(Fingerprint),
    /// Its build failed; the sentence carries the step and the last lines of output.
    Failed(Fingerprint, String),
    /// Its inputs cannot be read.
    Unreadable(String),
    /// Its inputs have not been read yet; a retry may succeed.
    Unread(String),
}

/// Says which template a pool with a source wants. Implemented by the daemon's sources, and by nothing for pools built over HTTP.
pub trait Sources: Send + Sync + 'static {
    /// Compares the pool's inputs again and says which template they want. Starts a build if one is needed.
    fn current(&self, pool: &PoolName) -> Current;
}

/// Pools without sources, for tests.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct NoSources;

#[cfg(test)]
impl Sources for NoSources {
    fn current(&self, _pool: &PoolName) -> Current {
        Current::NoSource
    }
}

/// What the daemon does for its callers. Cheap to clone; generic over the backend so that HTTP is tested on the fake one.
pub struct Service<B> {
    backend: Arc<B>,
    wait_queue: Arc<WaitQueue>,
    events: Arc<Events>,
    sources: Arc<dyn Sources>,
    addresses: Arc<BTreeMap<String, Address>>,
    waiter_limit: WaiterLimit,
    stream_limit: WaiterLimit,
    max_login: LoginRights,
    refused_pools: Arc<RefusedPools>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl<B> Clone for Service<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            wait_queue: Arc::clone(&self.wait_queue),
            events: Arc::clone(&self.events),
            sources: Arc::clone(&self.sources),
            addresses: Arc::clone(&self.addresses),
            waiter_limit: self.waiter_limit.clone(),
            stream_limit: self.stream_limit.clone(),
            max_login: self.max_login,
            refused_pools: Arc::clone(&self.refused_pools),
            metrics: Arc::clone(&self.metrics),
            stopping: self.stopping.clone(),
            tasks: self.tasks.clone(),
        }
    }
}

impl<B: Backend + 'static> Service<B> {
    /// A service on the catalog and the server. `sources` build templates of pools; `addresses` are `default` and those that `via` names;
    /// at most `waiters` callers wait at once. After `stopping` nothing is granted and waiters are answered; `tasks` must end before the
    /// daemon exits.
    #[must_use]
    pub fn new(
        backend: Arc<B>,
        wait_queue: Arc<WaitQueue>,
        sources: Arc<dyn Sources>,
        addresses: BTreeMap<String, Address>,
        waiters: usize,
        stopping: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let (addresses, waiter_limit) = (Arc::new(addresses), WaiterLimit::of(waiters));
        Self {
            backend,
            wait_queue,
            events: Arc::default(),
            sources,
            addresses,
            waiter_limit,
            // A stream occupies a connection for as long as a page is open.
            stream_limit: WaiterLimit::of((waiters / 4).max(1)),
            max_login: LoginRights::Plain,
            refused_pools: Arc::default(),
            metrics: Arc::default(),
            stopping,
            tasks,
        }
    }

    /// The same, whose callers may set `login` of a pool to at most this.
    #[must_use]
    pub fn with_max_login(self, max_login: LoginRights) -> Self {
        Self { max_login, ..self }
    }

    /// The same, whose callers are told why a pool of the configuration could not be made.
    #[must_use]
    pub fn with_refused_pools(self, refused_pools: Arc<RefusedPools>) -> Self {
        Self { refused_pools, ..self }
    }

    /// The same, which publishes what it does on this bus.
    #[must_use]
    pub fn with_events(self, events: Arc<Events>) -> Self {
        Self { events, ..self }
    }

    /// The bus of events.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Cancelled when the daemon stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// A permit to stream events; `None` when as many streams are open as the daemon serves.
    pub fn enter_stream(&self) -> Option<WaiterPermit> {
        self.stream_limit.enter()
    }

    /// How many streams are open.
    #[cfg(test)]
    pub fn open_streams(&self) -> usize {
        self.stream_limit.taken()
    }

    /// The same, which counts what it does there.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// The addresses that callers may name.
    pub fn addresses(&self) -> &BTreeMap<String, Address> {
        &self.addresses
    }

    /// The address that `via` names.
    ///
    /// # Errors
    /// When no address of that name is configured; the sentence lists those that are.
    pub fn address(&self, via: &str) -> Result<&Address, Error> {
        self.addresses.get(via).ok_or_else(|| {
            let known: Vec<&str> = self.addresses.keys().map(String::as_str).collect();
            Error::Invalid(InvalidName {
                field: "via",
                rule: format!(
                    "\"{}\" is not among the advertised addresses ({}); PGDIBS_ADVERTISE adds one",
                    pgdibs_core::name::shown(via),
                    known.join(", ")
                ),
            })
        })
    }

    /// Runs a request that may wait. It is tracked, so that the daemon leaves the server only when the waiter has been answered.
    async fn tracked<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        self.tasks.track_future(request).await
    }

    /// A wait that counts against the limit and ends when the daemon stops.
    fn waiter(&self, wait: Duration) -> Waiter<'_> {
        Waiter::new(&self.wait_queue, wait).until_stopped(self.stopping.clone()).limited_by(&self.waiter_limit)
    }
}
