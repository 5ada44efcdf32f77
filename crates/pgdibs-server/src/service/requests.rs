//! Requests that wait for nothing: each calls the backend and wakes whom its change concerns.

use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::lease::{Credentials, End, Lease, LeaseId};
use pgdibs_core::name::{InvalidName, PoolName, shown};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::{Announce, Kept, ReportedRun, RunReport};
use pgdibs_core::snapshot::Snapshot;
use pgdibs_failpoint::{Failpoint, reach};

use super::{Current, Service};

/// The reconciler loses its own connection at times, and opens the next one within this time. Other requests go on meanwhile.
const LONGEST_HICCUP: Duration = Duration::from_millis(250);

impl<B: Backend + 'static> Service<B> {
    /// Reads everything; in an outage that the reconciler knows of, fails at once.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.unless_unreachable(Duration::ZERO, self.backend.take_snapshot()).await
    }

    /// Runs a request that the reconciler's knowledge of an outage ends, but not before `wait` is over: the server may be back by then. A
    /// request that finds the server unreachable by itself gets the same sentence as every other caller, and as the status.
    pub(super) async fn unless_unreachable<T>(
        &self,
        wait: Duration,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let outage = async {
            tokio::time::sleep(wait.max(LONGEST_HICCUP)).await;
            self.wait_queue.outage_known().await
        };
        tokio::select! {
            biased;
            answer = request => answer.map_err(|error| match error {
                Error::ServerUnavailable(_) => self.wait_queue.outage().unwrap_or(error),
                error => error,
            }),
            outage = outage => Err(outage),
        }
    }

    /// Makes a pool or changes its settings; the flag says whether it was made.
    ///
    /// # Errors
    /// As [`Backend::put_pool`]; a `login` above the daemon's `max_login`.
    pub async fn put_pool(&self, pool: &PoolName, patch: &PoolPatch) -> Result<bool, Error> {
        if let Some(login) = patch.login.filter(|login| *login > self.max_login) {
            let (login, most) = (login.as_str(), self.max_login.as_str());
            let rule = format!(
                "\"{login}\" is above the most that this daemon gives over HTTP, max_login = \"{most}\"; where the daemon runs, set \
                 PGDIBS_MAX_LOGIN={login}, or login = \"{login}\" in [pools.{pool}] of pgdibs.toml"
            );
            return Err(Error::Invalid(InvalidName { field: "login", rule }));
        }
        let (_, made) = self.unless_unreachable(Duration::ZERO, self.backend.put_pool(pool, patch)).await?;
        self.wait_queue.wake_reconciler();
        Ok(made)
    }

    /// Drops a pool; its waiters are answered.
    ///
    /// # Errors
    /// As [`Backend::drop_pool`].
    pub async fn drop_pool(&self, pool: &PoolName, force: bool) -> Result<(), Error> {
        let before = if force { Some(self.snapshot().await?) } else { None };
        self.unless_unreachable(Duration::ZERO, self.backend.drop_pool(pool, force)).await?;
        let revoked = before.iter().flat_map(|snapshot| &snapshot.leases).filter(|lease| lease.pool == *pool);
        revoked.for_each(|lease| self.events.lease_ended(lease, End::Revoked, "its pool was dropped"));
        self.wake_everything();
        Ok(())
    }

    /// Announces what a run will need; returns it with the fingerprint that the run's leases get. Without fingerprint that is the one of the
    /// current inputs on a pool with a source, else the one of [`Backend::choose_template`], if the pool has any.
    ///
    /// # Errors
    /// As [`Backend::announce`] and [`Backend::choose_template`]; a source that cannot be built from.
    pub async fn announce(&self, announce: Announce) -> Result<Announce, Error> {
        match self.unless_unreachable(Duration::ZERO, self.announce_templates(announce)).await {
            Ok(announced) => Ok(announced),
            Err(error) => Err(self.explain_missing_pool(error).await),
        }
    }

    async fn announce_templates(&self, mut announce: Announce) -> Result<Announce, Error> {
        if let Some(current) = self.current(&announce.pool)? {
            announce.fingerprint.get_or_insert(current);
        } else if announce.fingerprint.is_none() {
            announce.fingerprint = match self.backend.choose_template(&announce.pool, Some(&announce.run)).await {
                Ok(chosen) => Some(chosen),
                Err(Error::TemplateNotFound(_)) => None,
                Err(error) => return Err(error),
            };
        }
        let is_new = match self.backend.announce(&announce).await {
            // The source's build has not written its row yet; the announcement of the pool's current template stands until then.
            Err(Error::TemplateNotFound(_))
                if matches!(self.sources.current(&announce.pool), Current::Fingerprint(_)) =>
            {
                announce.fingerprint = None;
                self.backend.announce(&announce).await?
            }
            answer => answer?,
        };
        if is_new {
            self.events.publish(admitted(&announce));
        }
        self.wait_queue.wake_reconciler();
        Ok(announce)
    }

    /// Ends a run and all that it holds; returns how many leases were live. Its waiters are answered.
    ///
    /// # Errors
    /// As [`Backend::end_run`].
    pub async fn end_run(&self, run: &str) -> Result<u64, Error> {
        let known = self.events.leases_of_run(run);
        let released = self.unless_unreachable(Duration::ZERO, self.backend.end_run(run)).await?;
        self.publish_end_of_run(run, known, released).await;
        self.wait_queue.wake_reconciler();
        self.wait_queue.wake_run(run);
        Ok(released)
    }

    /// Keeps what a run says about itself.
    ///
    /// # Errors
    /// As [`Backend::report_run`].
    pub async fn report_run(&self, report: &RunReport) -> Result<(), Error> {
        self.unless_unreachable(Duration::ZERO, self.backend.report_run(report)).await
    }

    /// The reports that are kept, the latest first.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn reported_runs(&self, pool: Option<&PoolName>) -> Result<Vec<ReportedRun>, Error> {
        self.unless_unreachable(Duration::ZERO, self.backend.reported_runs(pool)).await
    }

    /// Publishes the ends of a run and of its leases. A run may be ended again, which is no event.
    async fn publish_end_of_run(&self, run: &str, known: Vec<LeaseId>, released: u64) {
        let reason = "its run ended";
        if known.len() as u64 == released {
            for id in known {
                self.events.known_lease_ended(id, End::Released, reason);
            }
        } else if let Ok(ended) = self.backend.ended_leases().await {
            // Leases from before a restart, or of another daemon.
            let of_run = ended.iter().filter(|lease| lease.run.as_deref() == Some(run));
            let count = usize::try_from(released).unwrap_or(usize::MAX);
            of_run.take(count).for_each(|lease| self.events.lease_ended(lease, End::Released, reason));
        }
        if released > 0 || !self.events.has(EventKind::RunEnded, run) {
            let pool = self.events.pool_of_run(run);
            let event = Event { pool, ..Event::new(EventKind::RunEnded) }.with_run(run);
            self.events.publish(event.because(&format!("it held {released} leases")));
        }
    }

    /// The lease with this id, live or remembered.
    ///
    /// # Errors
    /// Unknown id.
    pub async fn lease(&self, id: LeaseId) -> Result<Lease, Error> {
        self.backend.lease(id).await
    }

    /// Leases that ended within the last 24 hours, newest first.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn ended_leases(&self) -> Result<Vec<Lease>, Error> {
        self.backend.ended_leases().await
    }

    /// Renews a lease. A renewal that the server does not take, or whose caller disconnects before it does, is remembered, so that its
    /// lease does not end for that.
    ///
    /// # Errors
    /// As [`Backend::renew`].
    pub async fn renew(&self, id: LeaseId, ttl_seconds: Option<u64>) -> Result<Lease, Error> {
        let renewal = self.wait_queue.renewal_received(id);
        let renewed = self.backend.renew(id, ttl_seconds).await;
        match &renewed {
            Ok(lease) => {
                renewal.written(lease.renewals, lease.ttl_seconds);
                self.events.lease_renewed(lease);
            }
            Err(Error::ServerUnavailable(_)) => {}
            Err(_) => renewal.refused(),
        }
        renewed
    }

    /// Promises that the database behind a lease is kept when it leaves its slot.
    ///
    /// # Errors
    /// As [`Backend::keep`].
    pub async fn keep(&self, id: LeaseId, seconds: u64, reason: &str) -> Result<Kept, Error> {
        let kept = self.unless_unreachable(Duration::ZERO, self.backend.keep(id, seconds, reason)).await?;
        if let Ok(lease) = self.backend.lease(id).await {
            let event = Event::of_lease(EventKind::LeaseKept, &lease).taking(Duration::from_secs(seconds));
            self.events.publish(Event { database: Some(kept.name.to_string()), ..event }.because(reason));
        }
        Ok(kept)
    }

    /// Releases a lease; of one that is over: no change, no error.
    ///
    /// # Errors
    /// Unknown id.
    pub async fn release(&self, id: LeaseId) -> Result<(), Error> {
        let reason = "released by its holder";
        let end = self.backend.end_lease(id, End::Released, reason);
        if self.unless_unreachable(Duration::ZERO, end).await? {
            self.publish_release(id, reason).await;
            reach(Failpoint::ReleaseAnswering).await;
            self.wait_queue.wake_reconciler();
        }
        Ok(())
    }

    async fn publish_release(&self, id: LeaseId, reason: &str) {
        if !self.events.known_lease_ended(id, End::Released, reason)
            && let Ok(lease) = self.backend.lease(id).await
        {
            self.events.lease_ended(&lease, End::Released, reason);
        }
    }

    /// Releases, in a task of its own, what was granted under these ids: its caller disconnected before it was answered.
    pub fn release_on_disconnect(&self, ids: Vec<LeaseId>) {
        let service = self.clone();
        self.tasks.spawn(async move { service.release_requests(&ids).await });
    }

    /// Releases what was granted under these ids, which the daemon made for one request. A lease that the caller held before has another
    /// id and is left alone.
    pub(super) async fn release_requests(&self, ids: &[LeaseId]) {
        let mut released = false;
        for &id in ids {
            let reason = "the caller hung up before the reply";
            match self.backend.end_lease(id, End::Released, reason).await {
                Ok(true) => {
                    self.publish_release(id, reason).await;
                    released = true;
                }
                Ok(false) => {}
                Err(Error::LeaseNotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(lease.id = %id, %error, "cannot release lease of disconnected caller: it expires");
                }
            }
        }
        if released {
            self.wait_queue.wake_reconciler();
        }
    }

    /// The login of a leased or kept database.
    ///
    /// # Errors
    /// No leased or kept database of that name.
    pub async fn credentials(&self, database: &str) -> Result<Credentials, Error> {
        check_database_name(database)?;
        self.backend.credentials(database).await
    }

    /// Gives a kept database up early.
    ///
    /// # Errors
    /// No kept database of that name.
    pub async fn drop_kept(&self, database: &str) -> Result<(), Error> {
        check_database_name(database)?;
        self.backend.drop_kept(database).await?;
        self.wait_queue.wake_reconciler();
        Ok(())
    }

    /// Wakes the reconciler and every waiter.
    pub(super) fn wake_everything(&self) {
        self.wait_queue.wake_reconciler();
        self.wait_queue.wake_all();
    }
}

fn admitted(announce: &Announce) -> Event {
    let event = Event::of_pool(EventKind::RunAdmitted, &announce.pool).with_run(&announce.run);
    let template = announce.fingerprint.as_ref().map(ToString::to_string);
    let reason = match announce.aliases {
        1 => format!("{} workers", announce.workers),
        aliases => format!("{} workers with {aliases} databases each", announce.workers),
    };
    Event { template, ..event }.because(&reason)
}

/// Postgres's `text` cannot hold a NUL, and no name is longer than 63 bytes.
fn check_database_name(database: &str) -> Result<(), Error> {
    if database.len() > 63 || database.contains('\0') {
        return Err(Error::DatabaseNotFound(format!("there is no database \"{}\"", shown(database))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use pgdibs_core::name::Fingerprint;
    use pgdibs_core::snapshot::PlannerContext;
    use pgdibs_testing::conformance::idle::run_until_idle;
    use pgdibs_testing::fake::FakeBackend;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::service::Sources;
    use crate::service::wait_queue::WaitQueue;

    /// A pool whose inputs went back to an older state.
    struct BackTo(Fingerprint);

    impl Sources for BackTo {
        fn current(&self, _pool: &PoolName) -> Current {
            Current::Fingerprint(self.0.clone())
        }
    }

    /// Regression: an announcement without fingerprint warmed the old template of a changed source (found by a second
    /// reading).
    #[tokio::test]
    async fn announcement_without_fingerprint_means_current_inputs() {
        let (pool, current) = (PoolName::parse("app").unwrap(), Fingerprint::parse("v1").unwrap());
        let sources = Arc::new(BackTo(current.clone()));
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let backend = Arc::new(FakeBackend::new());
        let service = Service::new(backend, Arc::default(), sources, BTreeMap::new(), 10, stopping, tasks);
        service.backend.put_pool(&pool, &PoolPatch::default()).await.unwrap();
        for version in ["v1", "v2"] {
            let fingerprint = Fingerprint::parse(version).unwrap();
            service.backend.put_template(&pool, &fingerprint, "", "token").await.unwrap();
            run_until_idle(&*service.backend, &PlannerContext::default()).await;
            service.backend.request_seal(&pool, &fingerprint, "token").await.unwrap();
            run_until_idle(&*service.backend, &PlannerContext::default()).await;
        }
        let announce = Announce { run: "r".to_owned(), pool, fingerprint: None, workers: 2, aliases: 1 };
        service.announce(announce).await.unwrap();
        let runs = service.backend.take_snapshot().await.unwrap().runs;
        assert_eq!(runs.iter().map(|run| run.fingerprint.clone()).collect::<Vec<_>>(), [Some(current)]);
    }

    /// Regression: in an outage the status, and a lease that did not want to wait, took 8 s (issue 17, E4).
    #[tokio::test]
    async fn known_outage_ends_request_after_its_wait() {
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let wait_queue = Arc::new(WaitQueue::default());
        let backend = Arc::new(FakeBackend::new());
        let sources = Arc::new(crate::service::NoSources);
        let service = Service::new(backend, Arc::clone(&wait_queue), sources, BTreeMap::new(), 10, stopping, tasks);
        let outage = Error::ServerUnavailable("connection refused (127.0.0.1:5432)".to_owned());
        wait_queue.set_outage(Some(outage.clone()));
        for wait in [Duration::ZERO, Duration::from_millis(400)] {
            let began = tokio::time::Instant::now();
            let hanging = std::future::pending::<Result<(), Error>>();
            assert_eq!(service.unless_unreachable(wait, hanging).await, Err(outage.clone()));
            let took = began.elapsed();
            assert!(took >= wait && took < Duration::from_secs(4), "{took:?}");
        }
        let own = async { Err::<(), _>(Error::ServerUnavailable("pool timed out".to_owned())) };
        assert_eq!(service.unless_unreachable(Duration::ZERO, own).await, Err(outage), "the same sentence for all");
        assert_eq!(service.unless_unreachable(Duration::ZERO, async { Ok(1) }).await, Ok(1));
        let later = async {
            tokio::time::sleep(LONGEST_HICCUP * 2).await;
            Ok(2)
        };
        wait_queue.set_outage(None);
        assert_eq!(service.unless_unreachable(Duration::ZERO, later).await, Ok(2), "no outage is known");
    }
}
