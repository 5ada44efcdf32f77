//! The service: what the daemon does for a caller, between the HTTP edge and the catalog. Everything that waits for its turn is here.

pub mod acquire;
pub mod wait_queue;
pub mod queries;
pub mod reset;
pub mod waiter_limit;
pub mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::{Fingerprint, InvalidName, PoolName};
use pgdibs_core::request::TicketId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::wait_queue::{Subscription, WaitQueue};
use self::waiter_limit::WaiterLimit;

/// Longest wait that a caller may ask for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Wait of a caller that names none.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// A waiter looks again after this long even when nothing rang: a ring from another daemon may have been lost with its connection.
const BACKSTOP: Duration = Duration::from_millis(500);

/// An address that tests connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The query of a URL that makes clients speak TLS as the daemon does; empty without TLS.
    pub tls: String,
}

/// The template that a pool with a source of its own wants at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// The pool has no source here; callers name fingerprints.
    NoSource,
    /// This fingerprint; it is built, being built, or about to be.
    Wanted(Fingerprint),
    /// Its inputs cannot be read or its build failed; the sentence carries the step and the last lines of output.
    Failed(Fingerprint, String),
    /// Its inputs cannot be read.
    Unreadable(String),
}

/// Says which template a pool with a source wants. Implemented by the daemon's sources, and by nothing for pools built over HTTP.
pub trait Sources: Send + Sync + 'static {
    /// Compares the pool's inputs again and says what they ask for. Starts a build if one is needed.
    fn current(&self, pool: &PoolName) -> Current;
}

/// Pools without sources: what the tests of the edge have.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct NoSources;

#[cfg(test)]
impl Sources for NoSources {
    fn current(&self, _pool: &PoolName) -> Current {
        Current::NoSource
    }
}

/// What the daemon does for its callers. Cheap to clone; generic over the world so that the edge can be tested on the fake.
pub struct Service<W> {
    /// The catalog and the server.
    pub backend: Arc<W>,
    /// Whom to wake.
    pub wait_queue: Arc<WaitQueue>,
    /// The sources of pools that the daemon builds itself.
    pub sources: Arc<dyn Sources>,
    /// Addresses handed out: `default` and those that `via` names.
    pub addresses: Arc<BTreeMap<String, Address>>,
    /// Who waits here.
    pub waiter_limit: WaiterLimit,
    /// Set when the daemon is about to exit: no new grants, waiters are answered.
    pub stopping: CancellationToken,
    /// Tasks that must end before the daemon exits.
    pub tasks: TaskTracker,
}

impl<W> Clone for Service<W> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            wait_queue: Arc::clone(&self.wait_queue),
            sources: Arc::clone(&self.sources),
            addresses: Arc::clone(&self.addresses),
            waiter_limit: self.waiter_limit.clone(),
            stopping: self.stopping.clone(),
            tasks: self.tasks.clone(),
        }
    }
}

/// Why a wait ended without what was waited for.
enum WaitOver {
    /// Its time is up.
    Deadline,
    /// All places in the waiting room are taken.
    NoPlace,
    /// The caller hung up.
    HungUp,
    /// The daemon is about to exit.
    Stopping,
}

impl<W: Backend + 'static> Service<W> {
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

    /// Waits for a ring, the backstop, the deadline, the caller's hanging up or the daemon's end, whichever comes first.
    async fn wait(
        &self,
        subscription: &mut Subscription,
        deadline: Instant,
        hung_up: &CancellationToken,
    ) -> Result<(), WaitOver> {
        self.wait_with(subscription, None, deadline, hung_up).await
    }

    /// The same, passing over rings that cannot concern the waiter with this ticket.
    async fn wait_with(
        &self,
        subscription: &mut Subscription,
        ticket: Option<TicketId>,
        deadline: Instant,
        hung_up: &CancellationToken,
    ) -> Result<(), WaitOver> {
        if self.stopping.is_cancelled() {
            return Err(WaitOver::Stopping);
        }
        if Instant::now() >= deadline {
            return Err(WaitOver::Deadline);
        }
        tokio::select! {
            // In this order: at the end others give up their places and ring, and whoever looked again then would look too late.
            biased;
            () = self.stopping.cancelled() => Err(WaitOver::Stopping),
            () = hung_up.cancelled() => Err(WaitOver::HungUp),
            () = subscription.notified_for(&self.wait_queue, ticket) => Ok(()),
            () = tokio::time::sleep(BACKSTOP) => Ok(()),
            () = tokio::time::sleep_until(deadline) => Err(WaitOver::Deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use pgdibs_core::pool::PoolPatch;
    use pgdibs_core::request::Announce;
    use pgdibs_core::snapshot::PlannerContext;
    use pgdibs_testing::conformance::idle::run_until_idle;
    use pgdibs_testing::fake::FakeBackend;

    use super::*;

    fn service(sources: Arc<dyn Sources>) -> Service<FakeBackend> {
        Service {
            backend: Arc::new(FakeBackend::new()),
            wait_queue: Arc::default(),
            sources,
            addresses: Arc::default(),
            waiter_limit: WaiterLimit::of(10),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Regression: at the end, a waiting `PUT` of a template or a reset heard `server_unavailable` in place of
    /// `shutting_down`: the ring of a waiter that gave up came before the word of the end, and the connections were closed by
    /// then (found by CI).
    #[tokio::test]
    async fn who_hears_a_ring_and_the_end_at_once_is_told_of_the_end() {
        // Many times, since an order that is left to chance is right half of the time.
        for _ in 0..50 {
            let service = service(Arc::new(NoSources));
            let (mut subscription, stopping, wait_queue) =
                (service.wait_queue.listen(), service.stopping.clone(), service.wait_queue.clone());
            tokio::spawn(async move {
                wait_queue.wake_all();
                stopping.cancel();
            });
            let deadline = Instant::now() + LONGEST_WAIT;
            let waited = service.wait(&mut subscription, deadline, &CancellationToken::new()).await;
            assert!(matches!(waited, Err(WaitOver::Stopping)));
        }
    }

    /// A pool whose inputs went back to an older state.
    struct BackTo(Fingerprint);

    impl Sources for BackTo {
        fn current(&self, _pool: &PoolName) -> Current {
            Current::Wanted(self.0.clone())
        }
    }

    /// Regression: an announcement without fingerprint warmed the old template of a changed source (found by a second
    /// reading).
    #[tokio::test]
    async fn an_announcement_without_fingerprint_means_the_present_inputs_template_and_not_the_newest() {
        let (pool, present) = (PoolName::parse("app").unwrap(), Fingerprint::parse("v1").unwrap());
        let service = service(Arc::new(BackTo(present.clone())));
        service.backend.put_pool(&pool, &PoolPatch::default()).await.unwrap();
        for version in ["v1", "v2"] {
            let fingerprint = Fingerprint::parse(version).unwrap();
            service.backend.put_template(&pool, &fingerprint, "", "token").await.unwrap();
            run_until_idle(&*service.backend, &PlannerContext::default()).await;
            service.backend.request_seal(&pool, &fingerprint, "token").await.unwrap();
            run_until_idle(&*service.backend, &PlannerContext::default()).await;
        }
        let announce = Announce { run: "r".to_owned(), pool, fingerprint: None, workers: 2, aliases: 1 };
        service.announce(&announce).await.unwrap();
        let runs = service.backend.gather().await.unwrap().runs;
        assert_eq!(runs.iter().map(|run| run.fingerprint.clone()).collect::<Vec<_>>(), [Some(present)]);
    }
}
