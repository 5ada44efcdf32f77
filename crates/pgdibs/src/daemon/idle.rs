//! Ends a daemon that nobody uses: one that a test run has started, and left for the next run.

use std::sync::Arc;
use std::time::Duration;

use pgdibs_core::database::DatabaseState;
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::TemplateState;
use pgdibs_core::world::World as _;
use pgdibs_postgres::world::PgWorld;
use tokio_util::sync::CancellationToken;

use crate::http::Quiet;

/// How often it is looked at, at most; a shorter time is looked at four times.
const EVERY: Duration = Duration::from_secs(5);

/// Cancels `stopping` when nobody has asked for anything for `after`, and nobody has anything.
pub(super) async fn end_when_idle(
    world: Arc<PgWorld>,
    quiet: Arc<Quiet>,
    after: Duration,
    stopping: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY.min(after / 4)) => {}
            () = stopping.cancelled() => return,
        }
        if quiet.lasts() < after {
            continue;
        }
        // A server that does not answer may hold something of somebody's.
        let Ok(snapshot) = world.gather().await else { continue };
        // Looked at again: somebody may have asked while the server answered.
        if is_unused(&snapshot) && quiet.lasts() >= after {
            tracing::info!(seconds = after.as_secs(), "nobody has used this daemon for so long: it ends");
            stopping.cancel();
            return;
        }
    }
}

/// Whether nobody has or waits for anything. A kept database is somebody's until its time is over.
fn is_unused(snapshot: &Snapshot) -> bool {
    snapshot.leases.is_empty()
        && snapshot.tickets.is_empty()
        && !snapshot.databases.iter().any(|database| database.state == DatabaseState::Kept)
        && !snapshot.templates.iter().any(|template| template.state == TemplateState::Building)
}
