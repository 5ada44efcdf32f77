//! Resets a live lease: same id, same URL, a freshly cloned database behind it.

use std::sync::OnceLock;
use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::event::EventKind;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::request::{ResetBegun, TicketHolder, TicketId, TicketKind};
use tokio::time::Instant;

use super::waiter::{Attempt, Waited, Waiter};
use super::{Service, shortages};

/// The swap itself takes milliseconds; after this long something is wrong and the caller is told to ask again.
const SWAP_DEADLINE: Duration = Duration::from_secs(20);

impl<B: Backend + 'static> Service<B> {
    /// Resets a lease, waiting up to `wait` for a spare. `leave` is the generation to leave behind, which makes a repeated
    /// call harmless.
    ///
    /// # Errors
    /// Unknown or ended lease; no spare in time, in which case the old database is untouched.
    pub async fn reset(&self, id: LeaseId, leave: Option<u32>, wait: Duration) -> Result<Lease, Error> {
        let began = Instant::now();
        let reset = self.tracked(async {
            match self.reserve_spare(id, leave, wait).await? {
                ResetBegun::Already(lease) => Ok(*lease),
                ResetBegun::Reserved { generation } => self.wait_for_swap(id, generation).await,
                ResetBegun::Wait(_) => Err(Error::Internal("a reset was begun without a spare".to_owned())),
            }
        });
        let lease = self.unless_unreachable(wait, reset).await?;
        self.metrics.was_reset(&lease, began.elapsed());
        Ok(lease)
    }

    async fn reserve_spare(&self, id: LeaseId, leave: Option<u32>, wait: Duration) -> Result<ResetBegun, Error> {
        let began = Instant::now();
        let waiter = self.waiter(wait);
        let place = QueuePlace { service: self, lease: id, began, ticket: OnceLock::new(), ended: OnceLock::new() };
        let waited = waiter.wait(|| async {
            loop {
                let wanted = match self.backend.begin_reset(id, leave, place.ticket.get().copied()).await? {
                    ResetBegun::Wait(wanted) => wanted,
                    begun => return Ok(Attempt::Done(begun)),
                };
                if place.ticket.get().is_some() || wait.is_zero() || !waiter.enter() {
                    return Ok(Attempt::Pending(wanted, None));
                }
                self.wait_queue.ticket_requested();
                let Lease { run, worker, holder, .. } = self.backend.lease(id).await?;
                let holder = TicketHolder { run, worker, holder };
                let ticket = self.backend.take_ticket(&wanted, 1, TicketKind::Reset, &holder).await?;
                self.wait_queue.add_waiter(ticket, None);
                place.ticket.get_or_init(|| ticket);
                self.events.publish(self.events.of_lease(EventKind::WaitBegun, id).because("no spare is free"));
                self.wait_queue.wake_reconciler();
            }
        });
        let waited = waited.await;
        let _only_once = place.ended.set(match &waited {
            Ok(Waited::Done(_)) => "granted",
            Ok(Waited::Deadline(_)) => "its time was over",
            Ok(Waited::Full(_)) => "too many callers wait",
            Err(_) => "it failed",
        });
        match waited? {
            Waited::Done(begun) => {
                self.wait_queue.wake_reconciler();
                Ok(begun)
            }
            Waited::Deadline(wanted) => {
                let why = shortages::below_disk_floor(&self.snapshot().await?, wanted.template);
                Err(why.map_or_else(
                    || Error::PoolExhausted(format!(
                        "no spare of pool \"{}\" came free within {:.1} s, so the lease keeps its old database, untouched; raise `spares` of the pool or wait longer",
                        wanted.pool,
                        began.elapsed().as_secs_f64()
                    )),
                    |why| Error::DiskFloor(format!("{why}; the lease keeps its old database, untouched")),
                ))
            }
            Waited::Full(wanted) => Err(Error::PoolExhausted(format!(
                "no spare of pool \"{}\" is free, so the lease keeps its old database, untouched, and {}",
                wanted.pool,
                self.waiter_limit.why_full()
            ))),
        }
    }

    /// A swap that has begun is waited for even during shutdown: it takes milliseconds, and the reconciler goes on for that long.
    async fn wait_for_swap(&self, id: LeaseId, generation: u32) -> Result<Lease, Error> {
        let waiter = Waiter::new(&self.wait_queue, SWAP_DEADLINE);
        let waited = waiter.wait(|| async {
            let lease = self.backend.lease(id).await?;
            if lease.generation >= generation {
                return Ok(Attempt::Done(lease));
            }
            if lease.credentials.is_none() {
                return Err(Error::LeaseEnded {
                    id: id.to_string(),
                    state: lease.state,
                    ended: "the time of its reset".to_owned(),
                    reason: lease.ended_reason.unwrap_or_default(),
                    at: lease.ended_at,
                });
            }
            if lease.reset_to.is_none() {
                // The reserved spare was dropped from outside before the swap; another one will do.
                self.backend.begin_reset(id, Some(generation - 1), None).await?;
                self.wait_queue.wake_reconciler();
            }
            Ok(Attempt::Pending((), None))
        });
        match waited.await? {
            Waited::Done(lease) => Ok(lease),
            Waited::Deadline(()) | Waited::Full(()) => {
                Err(Error::ServerUnavailable(format!("the reset of lease {id} has begun but is not done yet")))
            }
        }
    }
}

/// A place in the queue that is given up when the waiter ends, however it ends.
struct QueuePlace<'a, B: Backend + 'static> {
    service: &'a Service<B>,
    lease: LeaseId,
    began: Instant,
    ticket: OnceLock<TicketId>,
    /// How the wait ended; empty when its caller disconnected.
    ended: OnceLock<&'static str>,
}

impl<B: Backend + 'static> Drop for QueuePlace<'_, B> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let backend = self.service.backend.clone();
            let wait_queue = self.service.wait_queue.clone();
            wait_queue.remove_waiter(ticket);
            let event = self.service.events.of_lease(EventKind::WaitEnded, self.lease).taking(self.began.elapsed());
            self.service.events.publish(event.because(self.ended.get().unwrap_or(&"the caller disconnected")));
            self.service.tasks.spawn(async move {
                if let Err(error) = backend.drop_ticket(ticket).await {
                    tracing::debug!(ticket = ticket.0, %error, "cannot delete ticket: it is deleted later");
                }
                wait_queue.wake_with_last_counts();
            });
        }
    }
}
