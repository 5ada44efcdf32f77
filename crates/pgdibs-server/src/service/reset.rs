//! Resets a live lease: same id, same URL, a freshly cloned database behind it.

use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::request::{ResetBegun, TicketId, TicketKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{BACKSTOP, Service, WaitOver};

/// The swap itself takes milliseconds; after this long something is wrong and the caller is told to ask again.
const SWAP_DEADLINE: Duration = Duration::from_secs(20);

impl<W: Backend + 'static> Service<W> {
    /// Resets a lease, waiting up to `wait` for a spare. `leave` is the generation to leave behind, which makes a repeated
    /// call harmless.
    ///
    /// # Errors
    /// Unknown or ended lease; no spare in time, in which case the old database is untouched.
    pub async fn reset(&self, id: LeaseId, leave: Option<u32>, wait: Duration) -> Result<Lease, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        // Tracked, so that the daemon leaves the server only when the waiter has been answered.
        self.tasks.track_future(self.reset_in_turn(id, leave, wait)).await
    }

    async fn reset_in_turn(&self, id: LeaseId, leave: Option<u32>, wait: Duration) -> Result<Lease, Error> {
        let mut subscription = self.wait_queue.listen();
        let began = Instant::now();
        let mut place = Place { service: self, ticket: None };
        let mut chair = None;
        let never = CancellationToken::new();
        let generation = loop {
            match self.backend.begin_reset(id, leave, place.ticket).await? {
                ResetBegun::Already(lease) => return Ok(*lease),
                ResetBegun::Reserved { generation } => break generation,
                ResetBegun::Wait(wanted) => {
                    if place.ticket.is_none() && !wait.is_zero() {
                        chair = self.waiter_limit.enter();
                        if chair.is_none() {
                            return Err(Error::PoolExhausted(format!(
                                "no spare of pool \"{}\" is free, so the lease keeps its old database, untouched, and {}",
                                wanted.pool,
                                self.waiter_limit.is_full()
                            )));
                        }
                        let ticket = self.backend.take_ticket(&wanted, 1, TicketKind::Reset).await?;
                        self.wait_queue.add_waiter(ticket, None);
                        place.ticket = Some(ticket);
                        self.wait_queue.wake_reconciler();
                        continue;
                    }
                    match self.wait(&mut subscription, began + wait, &never).await {
                        Ok(()) => {}
                        Err(WaitOver::Deadline) => {
                            return Err(Error::PoolExhausted(format!(
                                "no spare of pool \"{}\" came free within {:.1} s, so the lease keeps its old database, untouched; raise `spares` of the pool or wait longer",
                                wanted.pool,
                                began.elapsed().as_secs_f64()
                            )));
                        }
                        Err(WaitOver::HungUp | WaitOver::NoPlace | WaitOver::Stopping) => {
                            return Err(Error::ShuttingDown);
                        }
                    }
                }
            }
        };
        drop(chair);
        self.wait_queue.wake_reconciler();
        let deadline = Instant::now() + SWAP_DEADLINE;
        loop {
            let lease = self.backend.lease(id).await?;
            if lease.generation >= generation {
                return Ok(lease);
            }
            if lease.reset_to.is_none() && lease.credentials.is_some() {
                // The reserved spare was dropped by somebody else before the swap; another one will do.
                self.backend.begin_reset(id, Some(generation - 1), None).await?;
                self.wait_queue.wake_reconciler();
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
            // A swap that has begun is waited for even while we shut down: it takes milliseconds, and the reconciler goes on for that long.
            if Instant::now() >= deadline {
                return Err(Error::ServerUnavailable(format!("the reset of lease {id} has begun but is not done yet")));
            }
            let _rung_or_not = tokio::time::timeout(BACKSTOP, subscription.notified()).await;
        }
    }
}

/// A place in the queue that is given up when the waiter goes, however it goes.
struct Place<'a, W: Backend + 'static> {
    service: &'a Service<W>,
    ticket: Option<TicketId>,
}

impl<W: Backend + 'static> Drop for Place<'_, W> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let backend = self.service.backend.clone();
            let wait_queue = self.service.wait_queue.clone();
            wait_queue.remove_waiter(ticket);
            self.service.tasks.spawn(async move {
                if let Err(error) = backend.drop_ticket(ticket).await {
                    tracing::debug!(ticket = ticket.0, %error, "could not give a ticket up; it is forgotten later");
                }
                wait_queue.wake_all();
            });
        }
    }
}
