//! Shuts down an unused daemon: one that a test run started and left for the next run, or whose starter has exited.

use std::sync::Arc;
use std::time::Duration;

use pgdibs_core::backend::Backend as _;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::TemplateState;
use pgdibs_postgres::backend::PgBackend;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::Activity;
use crate::service::Service;

/// The longest interval of checks for idleness; a short idle time is checked four times.
const IDLE_POLL: Duration = Duration::from_secs(5);

/// The interval of checks after the starter has exited.
const ABANDONED_POLL: Duration = Duration::from_millis(250);

/// Cancels `stopping` when no request has arrived for `after` and nothing is in use.
pub(super) async fn shut_down_when_idle(
    backend: Arc<PgBackend>,
    activity: Arc<Activity>,
    after: Duration,
    stopping: CancellationToken,
) {
    while stopping.run_until_cancelled(tokio::time::sleep(IDLE_POLL.min(after / 4))).await.is_some() {
        if activity.idle_for() < after {
            continue;
        }
        // A server that does not answer may have leases.
        let Ok(snapshot) = backend.take_snapshot().await else { continue };
        // Checked again: a request may have arrived since.
        if is_unused(&snapshot) && activity.idle_for() >= after {
            tracing::info!(idle_seconds = after.as_secs(), "shutting down: no request and nothing in use");
            stopping.cancel();
            return;
        }
    }
}

/// Cancels `stopping` when `abandoned` was cancelled and no lease, ticket or build is left: another `pgdibs run` may use this daemon.
/// Kept databases do not count.
pub(super) async fn shut_down_when_abandoned(
    service_receiver: watch::Receiver<Option<Service<PgBackend>>>,
    abandoned: CancellationToken,
    stopping: CancellationToken,
) {
    abandoned.cancelled().await;
    loop {
        let service = service_receiver.borrow().clone();
        let used = match service {
            Some(service) => service.snapshot().await.is_ok_and(|snapshot| is_in_use(&snapshot)),
            None => false,
        };
        if !used {
            stopping.cancel();
            return;
        }
        if stopping.run_until_cancelled(tokio::time::sleep(ABANDONED_POLL)).await.is_none() {
            return;
        }
    }
}

/// Whether nothing is in use and no database is kept.
fn is_unused(snapshot: &Snapshot) -> bool {
    !is_in_use(snapshot) && !snapshot.databases.iter().any(|database| database.state == DatabaseState::Kept)
}

/// Whether there is a lease, a ticket or a build.
fn is_in_use(snapshot: &Snapshot) -> bool {
    !snapshot.leases.is_empty()
        || !snapshot.tickets.is_empty()
        || snapshot.templates.iter().any(|template| template.state == TemplateState::Building)
}
