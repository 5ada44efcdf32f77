//! Keeps the daemon a member of its server's daemons, and passes on what the others notify it of.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::membership::{ListenError, Notified};

use super::relay;
use crate::events::{Events, Loss};
use crate::reconciler::ReconcilerState;
use crate::service::wait_queue::WaitQueue;

/// Keeps this daemon a member until the caller drops the future: it gets notifications of other daemons' changes, and its tickets count.
///
/// It also detects a dead connection first, because the reconciler may be waiting for a step.
pub(super) async fn keep(
    backend: Arc<PgBackend>,
    wait_queue: Arc<WaitQueue>,
    report: Arc<Mutex<ReconcilerState>>,
    events: Arc<Events>,
) {
    let mut was_member = false;
    loop {
        match backend.membership().await {
            Ok(mut membership) => {
                // Also without other daemons at this moment: one that lost its connection as well joins again soon.
                if std::mem::replace(&mut was_member, true) {
                    events.receive_loss(Loss::Disconnected);
                }
                wait_queue.wake_reconciler_for_others();
                let error = loop {
                    match membership.notified().await {
                        Ok(Notified::Events(payload)) => relay::receive(&events, &payload),
                        // It wakes the waiters, once it has counted what is ready.
                        Ok(Notified::Changed) => wait_queue.wake_reconciler_for_others(),
                        Err(error) => break error,
                    }
                };
                if error == ListenError::NoAnswer {
                    // The reconciler clears it when the server answers.
                    report
                        .lock()
                        .unreachable
                        .get_or_insert_with(|| "the Postgres server is not available: it does not answer".to_owned());
                }
                wait_queue.wake_reconciler_for_others();
            }
            Err(error) => tracing::debug!(%error, "cannot become a member"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
