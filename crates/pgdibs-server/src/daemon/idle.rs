//! Ends a daemon that nobody uses: one that a test run has started and left for the next run, or whose starter has gone.

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

/// How often it is looked at, at most; a shorter time is looked at four times.
const EVERY: Duration = Duration::from_secs(5);

/// How often one is looked at that was abandoned.
const ABANDONED_EVERY: Duration = Duration::from_millis(250);

/// Cancels `stopping` when nobody has asked for anything for `after`, and nobody has anything.
pub(super) async fn end_when_idle(
    backend: Arc<PgBackend>,
    activity: Arc<Activity>,
    after: Duration,
    stopping: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY.min(after / 4)) => {}
            () = stopping.cancelled() => return,
        }
        if activity.idle_for() < after {
            continue;
        }
        // A server that does not answer may hold something of somebody's.
        let Ok(snapshot) = backend.gather().await else { continue };
        // Looked at again: somebody may have asked while the server answered.
        if is_unused(&snapshot) && activity.idle_for() >= after {
            tracing::info!(seconds = after.as_secs(), "nobody has used this daemon for so long: it ends");
            stopping.cancel();
            return;
        }
    }
}

/// Cancels `stopping` once `abandoned` was cancelled and nobody has anything that is under way. Another `pgdibs run` may have come to
/// this daemon meanwhile; what was kept is not waited for, as nobody is there to look.
pub(super) async fn end_when_abandoned(
    at_stage: watch::Receiver<Option<Service<PgBackend>>>,
    abandoned: CancellationToken,
    stopping: CancellationToken,
) {
    abandoned.cancelled().await;
    loop {
        let service = at_stage.borrow().clone();
        let used = match service {
            Some(service) => service.backend.gather().await.is_ok_and(|snapshot| is_in_use(&snapshot)),
            None => false,
        };
        if !used {
            stopping.cancel();
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(ABANDONED_EVERY) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// Whether nobody has or waits for anything. A kept database is somebody's until its time is over.
fn is_unused(snapshot: &Snapshot) -> bool {
    !is_in_use(snapshot) && !snapshot.databases.iter().any(|database| database.state == DatabaseState::Kept)
}

/// Whether somebody holds a lease, waits or builds.
fn is_in_use(snapshot: &Snapshot) -> bool {
    !snapshot.leases.is_empty()
        || !snapshot.tickets.is_empty()
        || snapshot.templates.iter().any(|template| template.state == TemplateState::Building)
}
