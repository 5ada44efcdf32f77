//! Acquires leases: at once when databases stand ready, otherwise in the order of tickets until the deadline.

use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::request::{Acquire, Acquired, TargetTemplate, TicketId, TicketKind};
use pgdibs_core::snapshot::Snapshot;
use pgdibs_failpoint::{Point, reach};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Current, Service, WaitOver};

/// Leases that were acquired for one caller.
#[derive(Debug)]
pub struct Grant {
    /// The leases, in the order of the wishes.
    pub leases: Vec<Lease>,
    /// Whether they are new (201) or were held under the same key already (200).
    pub new: bool,
    /// How long the caller waited.
    pub waited: Duration,
}

/// A ticket, and what it is for.
struct Held {
    id: TicketId,
    wanted: TargetTemplate,
}

impl<W: Backend + 'static> Service<W> {
    /// Acquires all the wishes or none.
    ///
    /// The work goes on in a task of its own, so that a caller that hangs up in the middle of a statement cannot leave a
    /// grant behind: the place in the queue is given up, and a grant that nobody waits for any more is released at once.
    ///
    /// # Errors
    /// As [`Backend::acquire`]; after the wait, who holds what.
    pub async fn acquire(&self, mut acquire_requests: Vec<Acquire>, wait: Duration) -> Result<Grant, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        for acquire_request in &mut acquire_requests {
            self.resolve_current(acquire_request)?;
        }
        let hung_up = CancellationToken::new();
        let _hang_up_on_drop = hung_up.clone().drop_guard();
        let (answer, answered) = oneshot::channel();
        let service = self.clone();
        self.tasks.spawn(async move {
            let result = service.acquire_in_turn(&acquire_requests, wait, &hung_up).await;
            if let Err(Ok(_)) = answer.send(result) {
                let ids: Vec<LeaseId> = acquire_requests.iter().map(|acquire_request| acquire_request.id).collect();
                service.release_requests(&ids).await;
            }
        });
        answered.await.unwrap_or_else(|_| Err(Error::Internal("the acquiring task ended without an answer".to_owned())))
    }

    /// A pool with a source of its own lends the template of its present inputs, never an older one.
    fn resolve_current(&self, acquire_request: &mut Acquire) -> Result<(), Error> {
        match self.sources.current(&acquire_request.pool) {
            Current::NoSource => Ok(()),
            Current::Unreadable(why) | Current::Failed(_, why) => Err(Error::TemplateFailed(why)),
            Current::Wanted(current) => match &acquire_request.fingerprint {
                None => {
                    acquire_request.fingerprint = Some(current);
                    Ok(())
                }
                Some(named) if *named == current => Ok(()),
                Some(named) => Err(Error::TemplateNotFound(format!(
                    "pool \"{}\" is built from a source; its present inputs have fingerprint \"{current}\", not \"{named}\". Leave `fingerprint` out to get the present one",
                    acquire_request.pool
                ))),
            },
        }
    }

    async fn acquire_in_turn(
        &self,
        acquire_requests: &[Acquire],
        wait: Duration,
        hung_up: &CancellationToken,
    ) -> Result<Grant, Error> {
        let began = Instant::now();
        let deadline = began + wait;
        let mut subscription = self.wait_queue.listen();
        let mut tickets: Vec<Held> = Vec::new();
        let mut place = None;
        let result = loop {
            let wanted = match self.backend.acquire(acquire_requests, tickets.first().map(|held| held.id)).await {
                Ok(Acquired::Granted(leases)) => {
                    reach(Point::AcquireGranted).await;
                    self.wait_queue.taken(leases.iter().map(|lease| lease.template));
                    break Ok(Grant { leases, new: true, waited: began.elapsed() });
                }
                Ok(Acquired::Existing(leases)) => break Ok(Grant { leases, new: false, waited: began.elapsed() }),
                Ok(Acquired::Wait(wanted)) => Some(wanted),
                // The source's build has not written its row yet.
                Err(Error::TemplateNotFound(_)) if self.builds_itself(acquire_requests) => None,
                // Or it has failed since we asked.
                Err(error @ Error::TemplateNotFound(_)) => {
                    break Err(self.source_failed(acquire_requests).unwrap_or(error));
                }
                Err(error) => break Err(error),
            };
            if place.is_none() && !wait.is_zero() {
                place = self.waiter_limit.enter();
                if place.is_none() {
                    break Err(self
                        .nothing_came(WaitOver::NoPlace, acquire_requests, wanted.as_ref(), began.elapsed())
                        .await);
                }
            }
            let Some(wanted) = wanted else {
                match self.wait(&mut subscription, deadline, hung_up).await {
                    Ok(()) => continue,
                    Err(over) => break Err(self.nothing_came(over, acquire_requests, None, began.elapsed()).await),
                }
            };
            if !wait.is_zero() && !tickets.iter().any(|held| held.wanted.template == wanted.template) {
                if let Err(error) = self.queue_for(&wanted, acquire_requests, &mut tickets).await {
                    break Err(error);
                }
                // No look now: the reconciler looks, sees the ticket and what is ready, and rings for as many as can be served.
                self.wait_queue.wake_reconciler();
                reach(Point::AcquireWaiting).await;
            }
            let ticket = tickets.first().map(|held| held.id);
            if let Err(over) = self.wait_with(&mut subscription, ticket, deadline, hung_up).await {
                break Err(self.nothing_came(over, acquire_requests, Some(&wanted), began.elapsed()).await);
            }
            if let Some(failed) = self.source_failed(acquire_requests) {
                break Err(failed);
            }
        };
        let granted = result.as_ref().is_ok_and(|grant: &Grant| grant.new);
        for (index, held) in tickets.iter().enumerate() {
            // A grant takes the first ticket with it.
            self.leave_queue(held.id, granted && index == 0).await;
        }
        if !tickets.is_empty() && !granted {
            // The next in the queue may be served now.
            self.wait_queue.wake_all();
        }
        // A grant leaves a gap to fill, which is not urgent; what it took is off the count already.
        if result.is_ok() {
            self.wait_queue.wake_reconciler_soon();
        } else {
            self.wait_queue.wake_reconciler();
        }
        result
    }

    /// Takes a ticket for the template that is wanted. A batch of several templates has one for each, so that databases of all of them are
    /// made; the first is its place in every queue, or two such batches could wait for each other.
    async fn queue_for(
        &self,
        wanted: &TargetTemplate,
        acquire_requests: &[Acquire],
        tickets: &mut Vec<Held>,
    ) -> Result<(), Error> {
        let of_pool = || acquire_requests.iter().filter(|acquire_request| acquire_request.pool == wanted.pool);
        let asks = |acquire_request: &Acquire| {
            acquire_request.fingerprint.as_ref().is_none_or(|named| *named == wanted.fingerprint)
        };
        let count =
            u32::try_from(of_pool().filter(|acquire_request| asks(acquire_request)).count()).unwrap_or(u32::MAX);
        let exact = acquire_requests.iter().all(|acquire_request| acquire_request.exact_slot);
        let kind = if exact { TicketKind::Exact } else { TicketKind::Acquire };
        let id = self.backend.take_ticket(wanted, count, kind).await?;
        if of_pool().all(|acquire_request| acquire_request.fingerprint.is_none()) {
            // A newer template has become ready meanwhile, and a ticket for the older one would claim a slot of the pool.
            for older in tickets.extract_if(.., |held| held.wanted.pool == wanted.pool) {
                self.leave_queue(older.id, false).await;
            }
        }
        tickets.push(Held { id, wanted: wanted.clone() });
        // Whoever waits for several templates looks whenever one of them may be ready.
        let [only] = &tickets[..] else {
            tickets.iter().for_each(|held| self.wait_queue.add_waiter(held.id, None));
            return Ok(());
        };
        self.wait_queue.add_waiter(only.id, (!exact && !wanted.building).then_some(wanted.template));
        Ok(())
    }

    async fn leave_queue(&self, ticket: TicketId, is_deleted: bool) {
        self.wait_queue.remove_waiter(ticket);
        if !is_deleted && let Err(error) = self.backend.drop_ticket(ticket).await {
            tracing::debug!(ticket = ticket.0, %error, "cannot delete ticket: it is deleted later");
        }
    }

    fn builds_itself(&self, acquire_requests: &[Acquire]) -> bool {
        acquire_requests
            .iter()
            .any(|acquire_request| matches!(self.sources.current(&acquire_request.pool), Current::Wanted(_)))
    }

    fn source_failed(&self, acquire_requests: &[Acquire]) -> Option<Error> {
        match self.sources.current(&acquire_requests.first()?.pool) {
            Current::Failed(_, why) | Current::Unreadable(why) => Some(Error::TemplateFailed(why)),
            Current::NoSource | Current::Wanted(_) => None,
        }
    }

    async fn nothing_came(
        &self,
        over: WaitOver,
        acquire_requests: &[Acquire],
        wanted: Option<&TargetTemplate>,
        waited: Duration,
    ) -> Error {
        match over {
            WaitOver::Stopping => return Error::ShuttingDown,
            WaitOver::HungUp => return Error::Internal("the caller hung up".to_owned()),
            WaitOver::Deadline | WaitOver::NoPlace => {}
        }
        let pool = wanted.map(|w| &w.pool).or_else(|| acquire_requests.first().map(|w| &w.pool)).cloned();
        let Some(pool) = pool else { return Error::Internal("an acquire without wishes".to_owned()) };
        let building = wanted.is_none_or(|w| w.building);
        if matches!(over, WaitOver::NoPlace) {
            let full = self.waiter_limit.is_full();
            return match building {
                true => {
                    Error::TemplateBuilding(format!("the template of pool \"{pool}\" is still being built, and {full}"))
                }
                false => Error::PoolExhausted(format!("no database of pool \"{pool}\" is free, and {full}")),
            };
        }
        if building {
            return Error::TemplateBuilding(format!(
                "the template of pool \"{pool}\" is still being built after {:.1} s; ask again",
                waited.as_secs_f64()
            ));
        }
        match self.backend.gather().await {
            Ok(snapshot) if wanted.is_some_and(|wanted| snapshot.disk_is_short_for(wanted.template)) => {
                Error::DiskFloor(below_floor(&snapshot, wanted))
            }
            Ok(snapshot) => Error::PoolExhausted(who_holds_what(&snapshot, &pool, waited)),
            Err(error) => error,
        }
    }
}

fn below_floor(snapshot: &Snapshot, wanted: Option<&TargetTemplate>) -> String {
    let template = wanted.and_then(|wanted| snapshot.template(wanted.template));
    format!(
        "no clone is made: {} MiB are free where the server keeps its data, a clone takes {} MiB while it is made, and disk_floor_mb (PGDIBS_DISK_FLOOR_MB) is {}; free some space or lower it",
        snapshot.limits.free_disk_bytes.unwrap_or(0) >> 20,
        template.map_or(0, |template| snapshot.bytes_of_clone(template)).div_ceil(1 << 20),
        snapshot.limits.disk_floor_bytes >> 20
    )
}

/// The sentence of a `pool_exhausted`: how many slots there are, which setting says so, and who sits in them.
fn who_holds_what(snapshot: &Snapshot, pool: &pgdibs_core::name::PoolName, waited: Duration) -> String {
    let max = snapshot.pools.iter().find(|p| &p.name == pool).map_or(0, |p| p.settings.max);
    let holders: Vec<String> = snapshot
        .leases
        .iter()
        .filter(|lease| &lease.pool == pool)
        .map(|lease| {
            let who =
                if lease.holder.is_empty() { lease.worker.as_deref().unwrap_or("somebody") } else { &lease.holder };
            format!("{} by {who}", lease.database_name)
        })
        .collect();
    let creating = snapshot
        .databases
        .iter()
        .filter(|d| &d.pool == pool && d.state == pgdibs_core::database::DatabaseState::Creating)
        .count();
    let ahead = snapshot.tickets.iter().filter(|t| &t.pool == pool).count();
    let last_error = snapshot
        .databases
        .iter()
        .filter(|d| &d.pool == pool)
        .find_map(|d| d.last_error.as_ref())
        .map_or(String::new(), |error| format!("; the last clone failed: {error}"));
    let lowered = match snapshot.limits.slots_by_connections {
        Some(limit) if limit < max => format!(" (lowered to {limit} by the server's max_connections)"),
        _ => String::new(),
    };
    let held =
        if holders.is_empty() { "no database is leased".to_owned() } else { format!("leased: {}", holders.join(", ")) };
    format!(
        "no database of pool \"{pool}\" came free within {:.1} s: {held}; {creating} being cloned, {ahead} waiting, max is {max}{lowered}{last_error}",
        waited.as_secs_f64()
    )
}
