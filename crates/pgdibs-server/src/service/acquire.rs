//! Acquires leases: at once when databases are ready, otherwise in the order of tickets until the deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::name::PoolName;
use pgdibs_core::request::{Acquire, Acquired, TargetTemplate, TicketId, TicketKind};
use pgdibs_core::snapshot::Snapshot;
use pgdibs_failpoint::{Failpoint, reach};
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::waiter::{Attempt, Waited};
use super::{Current, Service};

/// Leases that were acquired for one caller.
#[derive(Debug)]
pub struct Grant {
    /// The leases, in the order of the requests.
    pub leases: Vec<Lease>,
    /// Whether they are new (201) or were held under the same key already (200).
    pub new: bool,
    /// How long the caller waited.
    pub waited: Duration,
}

/// One lease that is requested.
#[derive(Debug)]
pub struct LeaseRequest {
    /// What to acquire.
    pub acquire: Acquire,
    /// Whether a lease that the caller holds already is reset.
    pub fresh: bool,
}

/// A ticket, and what it is for.
struct Ticket {
    id: TicketId,
    wanted: TargetTemplate,
}

impl<B: Backend + 'static> Service<B> {
    /// Acquires all the leases or none, and resets those that are to be fresh. With `shared_login` one login opens all of them.
    ///
    /// # Errors
    /// As [`Backend::acquire`], [`Service::reset`] and [`Backend::share_login`]; after the wait, which lease holds what. Nothing stays
    /// acquired.
    pub async fn acquire(
        &self,
        requests: Vec<LeaseRequest>,
        wait: Duration,
        shared_login: bool,
    ) -> Result<Grant, Error> {
        let fresh: Vec<bool> = requests.iter().map(|request| request.fresh).collect();
        let requests: Vec<Acquire> = requests.into_iter().map(|request| request.acquire).collect();
        let ids: Vec<LeaseId> = requests.iter().map(|request| request.id).collect();
        let mut grant = self.grant(requests, wait).await?;
        match self.prepare(&grant, &ids, &fresh, wait, shared_login).await {
            Ok(leases) => grant.leases = leases,
            Err(error) => {
                self.release_requests(&ids).await;
                return Err(error);
            }
        }
        Ok(grant)
    }

    /// The leases of a grant, reset and with one login where that was requested. A new lease is fresh already.
    async fn prepare(
        &self,
        grant: &Grant,
        ids: &[LeaseId],
        fresh: &[bool],
        wait: Duration,
        shared_login: bool,
    ) -> Result<Vec<Lease>, Error> {
        let mut leases = grant.leases.clone();
        for (lease, &fresh) in leases.iter_mut().zip(fresh) {
            if fresh && !ids.contains(&lease.id) {
                *lease = self.reset(lease.id, None, wait.saturating_sub(grant.waited)).await?;
            }
        }
        if shared_login {
            let granted: Vec<LeaseId> = leases.iter().map(|lease| lease.id).collect();
            leases = self.backend.share_login(&granted).await?;
        }
        Ok(leases)
    }

    /// Acquires all the leases or none.
    ///
    /// The work goes on in a task of its own, so that a caller that disconnects in the middle of a statement cannot leave a
    /// grant behind: its ticket is deleted, and a grant that no caller waits for any more is released at once.
    async fn grant(&self, mut requests: Vec<Acquire>, wait: Duration) -> Result<Grant, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        for request in &mut requests {
            self.resolve_current(request)?;
        }
        let disconnected = CancellationToken::new();
        let _cancel_on_drop = disconnected.clone().drop_guard();
        let (answer, answered) = oneshot::channel();
        let service = self.clone();
        self.tasks.spawn(async move {
            let result = service.acquire_in_turn(&requests, wait, disconnected).await;
            if let Err(Ok(_)) = answer.send(result) {
                let ids: Vec<LeaseId> = requests.iter().map(|request| request.id).collect();
                service.release_requests(&ids).await;
            }
        });
        answered.await.unwrap_or_else(|_| Err(Error::Internal("the acquiring task ended without an answer".to_owned())))
    }

    /// Pins a request on a pool with a source to the fingerprint of the current inputs; any other fingerprint is refused.
    fn resolve_current(&self, request: &mut Acquire) -> Result<(), Error> {
        let Some(current) = self.current(&request.pool)? else { return Ok(()) };
        match request.fingerprint.get_or_insert_with(|| current.clone()) {
            named if *named == current => Ok(()),
            named => Err(Error::TemplateNotFound(format!(
                "pool \"{}\" is built from a source; its present inputs have fingerprint \"{current}\", not \"{named}\". Leave `fingerprint` out to get the present one",
                request.pool
            ))),
        }
    }

    async fn acquire_in_turn(
        &self,
        requests: &[Acquire],
        wait: Duration,
        disconnected: CancellationToken,
    ) -> Result<Grant, Error> {
        let began = Instant::now();
        let waiter = self.waiter(wait).until_disconnected(disconnected);
        let tickets = Mutex::new(Vec::new());
        let is_woken = AtomicBool::new(false);
        let waited = waiter.wait(|| async {
            if is_woken.swap(true, Ordering::Relaxed)
                && let Some(failed) = self.source_failed(requests)
            {
                return Err(failed);
            }
            let mut tickets = tickets.lock().await;
            let wanted = match self.try_acquire(requests, tickets.first()).await? {
                Ok(granted) => return Ok(Attempt::Done(granted)),
                Err(None) => return Ok(Attempt::Pending(None, None)),
                Err(Some(wanted)) => wanted,
            };
            if !wait.is_zero()
                && waiter.enter()
                && !tickets.iter().any(|ticket: &Ticket| ticket.wanted.template == wanted.template)
            {
                self.queue_for(&wanted, requests, &mut tickets).await?;
                // No try now: the reconciler sees the ticket and what is ready, and wakes as many waiters as can be served.
                self.wait_queue.wake_reconciler();
                reach(Failpoint::AcquireWaiting).await;
            }
            Ok(Attempt::Pending(Some(wanted), tickets.first().map(|ticket| ticket.id)))
        });
        let waited = waited.await;
        let tickets = tickets.into_inner();
        let granted = matches!(waited, Ok(Waited::Done((_, true))));
        for (index, ticket) in tickets.iter().enumerate() {
            // A grant deletes the first ticket.
            self.leave_queue(ticket.id, granted && index == 0).await;
        }
        if !tickets.is_empty() && !granted {
            // The next in the queue may be served now.
            self.wait_queue.wake_all();
        }
        // A grant leaves a gap to fill, which is not urgent; what it took is off the count already.
        if matches!(waited, Ok(Waited::Done(_))) {
            self.wait_queue.wake_reconciler_soon();
        } else {
            self.wait_queue.wake_reconciler();
        }
        match waited? {
            Waited::Done((leases, new)) => Ok(Grant { leases, new, waited: began.elapsed() }),
            Waited::Deadline(wanted) => Err(self.timed_out(requests, wanted.as_ref(), began.elapsed()).await),
            Waited::Full(wanted) => {
                let (pool, why) = (pool_of(requests, wanted.as_ref()), self.waiter_limit.why_full());
                Err(match wanted {
                    Some(wanted) if !wanted.building => {
                        Error::PoolExhausted(format!("no database of pool \"{pool}\" is free, and {why}"))
                    }
                    _ => Error::TemplateBuilding(format!(
                        "the template of pool \"{pool}\" is still being built, and {why}"
                    )),
                })
            }
        }
    }

    /// The leases and whether they are new; otherwise what to wait for, if that is known yet.
    async fn try_acquire(
        &self,
        requests: &[Acquire],
        ticket: Option<&Ticket>,
    ) -> Result<Result<(Vec<Lease>, bool), Option<TargetTemplate>>, Error> {
        match self.backend.acquire(requests, ticket.map(|ticket| ticket.id)).await {
            Ok(Acquired::Granted(leases)) => {
                reach(Failpoint::AcquireGranted).await;
                self.wait_queue.granted(leases.iter().map(|lease| lease.template));
                Ok(Ok((leases, true)))
            }
            Ok(Acquired::Existing(leases)) => Ok(Ok((leases, false))),
            Ok(Acquired::Wait(wanted)) => Ok(Err(Some(wanted))),
            // The source's build has not written its row yet, or it has failed since the last try.
            Err(error @ Error::TemplateNotFound(_)) => match self.source_failed(requests) {
                Some(failed) => Err(failed),
                None if self.builds_itself(requests) => Ok(Err(None)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Takes a ticket for the template that is wanted. A batch of several templates has one for each, so that databases of all of them are
    /// made; the first is its place in every queue, or two such batches could wait for each other.
    async fn queue_for(
        &self,
        wanted: &TargetTemplate,
        requests: &[Acquire],
        tickets: &mut Vec<Ticket>,
    ) -> Result<(), Error> {
        let of_pool = || requests.iter().filter(|request| request.pool == wanted.pool);
        let asks = |request: &Acquire| request.fingerprint.as_ref().is_none_or(|named| *named == wanted.fingerprint);
        let count = u32::try_from(of_pool().filter(|request| asks(request)).count()).unwrap_or(u32::MAX);
        let exact = requests.iter().all(|request| request.exact_slot);
        let kind = if exact { TicketKind::Exact } else { TicketKind::Acquire };
        let id = self.backend.take_ticket(wanted, count, kind).await?;
        if of_pool().all(|request| request.fingerprint.is_none()) {
            // A newer template became ready during the wait, and a ticket for the older one would claim a slot of the pool.
            for older in tickets.extract_if(.., |held| held.wanted.pool == wanted.pool) {
                self.leave_queue(older.id, false).await;
            }
        }
        tickets.push(Ticket { id, wanted: wanted.clone() });
        // A waiter for several templates tries again whenever one of them may be ready.
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

    fn builds_itself(&self, requests: &[Acquire]) -> bool {
        requests.iter().any(|request| matches!(self.sources.current(&request.pool), Current::Fingerprint(_)))
    }

    fn source_failed(&self, requests: &[Acquire]) -> Option<Error> {
        match self.sources.current(&requests.first()?.pool) {
            Current::Failed(_, why) | Current::Unreadable(why) => Some(Error::TemplateFailed(why)),
            Current::NoSource | Current::Fingerprint(_) | Current::Unread(_) => None,
        }
    }

    /// Why a wait was in vain.
    async fn timed_out(&self, requests: &[Acquire], wanted: Option<&TargetTemplate>, waited: Duration) -> Error {
        let pool = pool_of(requests, wanted);
        let Some(wanted) = wanted.filter(|wanted| !wanted.building) else {
            return Error::TemplateBuilding(format!(
                "the template of pool \"{pool}\" is still being built after {:.1} s; ask again",
                waited.as_secs_f64()
            ));
        };
        match self.backend.take_snapshot().await {
            Ok(snapshot) if snapshot.disk_is_short_for(wanted.template) => {
                Error::DiskFloor(below_floor(&snapshot, wanted))
            }
            Ok(snapshot) => Error::PoolExhausted(who_holds_what(&snapshot, &wanted.pool, waited)),
            Err(error) => error,
        }
    }
}

/// The pool that a request waits for; the first one of a batch until it is known which.
fn pool_of(requests: &[Acquire], wanted: Option<&TargetTemplate>) -> String {
    let pool = wanted.map(|wanted| &wanted.pool).or_else(|| requests.first().map(|request| &request.pool));
    pool.map_or_else(String::new, ToString::to_string)
}

fn below_floor(snapshot: &Snapshot, wanted: &TargetTemplate) -> String {
    let template = snapshot.template(wanted.template);
    format!(
        "no clone is made: {} MiB are free where the server keeps its data, a clone takes {} MiB while it is made, and disk_floor_mb (PGDIBS_DISK_FLOOR_MB) is {}; free some space or lower it",
        snapshot.limits.free_disk_bytes.unwrap_or(0) >> 20,
        template.map_or(0, |template| snapshot.bytes_of_clone(template)).div_ceil(1 << 20),
        snapshot.limits.disk_floor_bytes >> 20
    )
}

/// The sentence of a `pool_exhausted`: how many slots there are, which setting says so, and which lease holds each.
fn who_holds_what(snapshot: &Snapshot, pool: &PoolName, waited: Duration) -> String {
    let max = snapshot.pools.iter().find(|p| &p.name == pool).map_or(0, |p| p.settings.max);
    let leases = snapshot.leases.iter().filter(|lease| &lease.pool == pool);
    let holders: Vec<String> = leases
        .map(|lease| {
            let worker = lease.worker.as_deref().unwrap_or("an unnamed holder");
            let holder = if lease.holder.is_empty() { worker } else { &lease.holder };
            format!("{} by {holder}", lease.database_name)
        })
        .collect();
    let held = match holders.is_empty() {
        true => "no database is leased".to_owned(),
        false => format!("leased: {}", holders.join(", ")),
    };
    let databases = || snapshot.databases.iter().filter(|database| &database.pool == pool);
    let creating = databases().filter(|database| database.state == DatabaseState::Creating).count();
    let last_error = databases().find_map(|database| database.last_error.as_ref());
    let last_error = last_error.map_or(String::new(), |error| format!("; the last clone failed: {error}"));
    let ahead = snapshot.tickets.iter().filter(|ticket| &ticket.pool == pool).count();
    let lowered = match snapshot.limits.slots_by_connections {
        Some(limit) if limit < max => format!(" (lowered to {limit} by the server's max_connections)"),
        _ => String::new(),
    };
    format!(
        "no database of pool \"{pool}\" came free within {:.1} s: {held}; {creating} being cloned, {ahead} waiting, max is {max}{lowered}{last_error}",
        waited.as_secs_f64()
    )
}
