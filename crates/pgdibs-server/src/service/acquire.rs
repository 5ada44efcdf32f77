//! Acquires leases: at once when databases are ready, otherwise in the order of tickets until the deadline.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::request::{Acquire, Acquired, TargetTemplate, TicketHolder, TicketId, TicketKind};
use pgdibs_failpoint::{Failpoint, reach};
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::waiter::{Attempt, Waited};
use super::{Current, Service, shortages};

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

/// One lease that is requested; the fields of [`Acquire`], except that the fingerprint may be missing.
#[derive(Debug)]
#[allow(missing_docs, reason = "see Acquire")]
pub struct LeaseRequest {
    pub id: LeaseId,
    pub pool: PoolName,
    pub fingerprint: Option<Fingerprint>,
    pub run: Option<String>,
    pub worker: Option<String>,
    pub alias: String,
    pub holder: String,
    pub ttl_seconds: u64,
    pub exact_slot: bool,
    /// Whether a lease that the caller holds already is reset.
    pub fresh: bool,
}

impl LeaseRequest {
    /// The request for a database of the named template, or of the chosen one, if that is chosen already.
    fn into_acquire(self, chosen: Option<Fingerprint>) -> Acquire {
        let Self { id, pool, fingerprint, run, worker, alias, holder, ttl_seconds, exact_slot, fresh: _ } = self;
        let fingerprint_named = fingerprint.is_some();
        let fingerprint = fingerprint.or(chosen);
        Acquire { id, pool, fingerprint, fingerprint_named, run, worker, alias, holder, ttl_seconds, exact_slot }
    }
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
        let ids: Vec<LeaseId> = requests.iter().map(|request| request.id).collect();
        // In an outage the task of the grant goes on, and what it is granted is released.
        let mut grant = match self.unless_unreachable(wait, self.grant(requests, wait)).await {
            Ok(grant) => grant,
            Err(error) => return Err(Box::pin(self.explain_missing_pool(error)).await),
        };
        // Boxed, as the other parts that follow or precede the wait: a thousand callers may wait at once.
        match Box::pin(self.prepare(&grant, &ids, &fresh, wait, shared_login)).await {
            Ok(leases) => grant.leases = leases,
            Err(error) => {
                Box::pin(self.release_requests(&ids)).await;
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
    async fn grant(&self, requests: Vec<LeaseRequest>, wait: Duration) -> Result<Grant, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let requests = Box::pin(self.choose_templates(requests)).await?;
        let disconnected = CancellationToken::new();
        let _cancel_on_drop = disconnected.clone().drop_guard();
        let (answer, answered) = oneshot::channel();
        let service = self.clone();
        self.tasks.spawn(async move {
            let result = service.acquire_in_turn(&requests, wait, disconnected).await;
            if let Err(Ok(_)) = answer.send(result) {
                let ids: Vec<LeaseId> = requests.iter().map(|request| request.id).collect();
                Box::pin(service.release_requests(&ids)).await;
            }
        });
        answered.await.unwrap_or_else(|_| Err(Error::Internal("the acquiring task ended without an answer".to_owned())))
    }

    /// Chooses the template of each request of a batch that names none, once: those of one run get the same template. The statement that
    /// acquires chooses that of a single request. On a pool with a source that is the one of the current inputs, and any other is refused.
    async fn choose_templates(&self, requests: Vec<LeaseRequest>) -> Result<Vec<Acquire>, Error> {
        let mut of_runs = BTreeMap::new();
        let mut chosen = Vec::with_capacity(requests.len());
        let is_single = requests.len() == 1;
        for request in requests {
            let current = self.current(&request.pool)?;
            let fingerprint = match (&request.fingerprint, current) {
                (Some(named), Some(current)) if *named != current => {
                    return Err(Error::TemplateNotFound(format!(
                        "pool \"{}\" is built from a source; its present inputs have fingerprint \"{current}\", not \"{named}\". Leave `fingerprint` out to get the present one",
                        request.pool
                    )));
                }
                (Some(_), _) => None,
                (None, Some(current)) => Some(current),
                (None, None) if is_single => None,
                (None, None) => Some(match of_runs.entry((request.pool.clone(), request.run.clone())) {
                    Entry::Occupied(entry) => Fingerprint::clone(entry.get()),
                    Entry::Vacant(entry) => {
                        let found = self.backend.choose_template(&request.pool, request.run.as_deref()).await?;
                        entry.insert(found).clone()
                    }
                }),
            };
            chosen.push(request.into_acquire(fingerprint));
        }
        Ok(chosen)
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
        // A caller that waits does not follow a later `PUT`.
        let with_template = OnceLock::new();
        let waited = waiter.wait(|| async {
            if is_woken.swap(true, Ordering::Relaxed)
                && let Some(failed) = self.source_failed(requests)
            {
                return Err(failed);
            }
            let mut tickets = tickets.lock().await;
            let requests = with_template.get().map_or(requests, Vec::as_slice);
            let wanted = match self.try_acquire(requests, tickets.first()).await? {
                Ok(granted) => return Ok(Attempt::Done(granted)),
                Err(None) => return Ok(Attempt::Pending(None, None)),
                Err(Some(wanted)) => wanted,
            };
            let requests = with_template.get_or_init(|| {
                let chosen =
                    |request: &Acquire| request.fingerprint.clone().or_else(|| Some(wanted.fingerprint.clone()));
                requests.iter().map(|request| Acquire { fingerprint: chosen(request), ..request.clone() }).collect()
            });
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
        if let Some(ticket) = tickets.first() {
            let ended = match &waited {
                Ok(Waited::Done(_)) => "granted".to_owned(),
                Ok(Waited::Deadline(_)) => "its time was over".to_owned(),
                Ok(Waited::Full(_)) => "too many callers wait".to_owned(),
                Err(error) => error.to_string(),
            };
            let event = self.wait_event(EventKind::WaitEnded, requests, &ticket.wanted);
            self.events.publish(event.taking(began.elapsed()).because(&ended));
        }
        if let Ok(Waited::Done((leases, true))) = &waited {
            leases.iter().for_each(|lease| self.events.lease_granted(lease, began.elapsed()));
        }
        for (index, ticket) in tickets.iter().enumerate() {
            // A grant deletes the first ticket.
            Box::pin(self.leave_queue(ticket.id, granted && index == 0)).await;
        }
        // A grant leaves a gap to fill, which is not urgent; what it took is off the count already. Without one, the reconciler counts again.
        if matches!(waited, Ok(Waited::Done(_))) {
            self.wait_queue.wake_reconciler_soon();
        } else {
            self.wait_queue.wake_reconciler();
        }
        match waited? {
            Waited::Done((leases, new)) => {
                if new {
                    self.metrics.granted(&leases, !tickets.is_empty(), began.elapsed());
                }
                Ok(Grant { leases, new, waited: began.elapsed() })
            }
            Waited::Deadline(wanted) => Err(Box::pin(self.timed_out(requests, wanted.as_ref(), began.elapsed())).await),
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
        let asks = |request: &&Acquire| {
            request.pool == wanted.pool && request.fingerprint.as_ref() == Some(&wanted.fingerprint)
        };
        let count = u32::try_from(requests.iter().filter(asks).count()).unwrap_or(u32::MAX);
        let exact = requests.iter().all(|request| request.exact_slot);
        let kind = if exact { TicketKind::Exact } else { TicketKind::Acquire };
        self.wait_queue.ticket_requested();
        let id = self.backend.take_ticket(wanted, count, kind, &holder_of(requests)).await?;
        if tickets.is_empty() {
            self.events.publish(self.wait_event(EventKind::WaitBegun, requests, wanted).because(why_waiting(wanted)));
        }
        tickets.push(Ticket { id, wanted: wanted.clone() });
        requests
            .iter()
            .filter_map(|request| request.run.as_deref())
            .for_each(|run| self.wait_queue.end_with_run(id, run));
        // A waiter for several templates tries again whenever one of them may be ready.
        let [only] = &tickets[..] else {
            tickets.iter().for_each(|held| self.wait_queue.add_waiter(held.id, None));
            return Ok(());
        };
        self.wait_queue.add_waiter(only.id, (!exact && !wanted.building).then_some(wanted.template));
        Ok(())
    }

    /// The event of a wait: of the first request, if it is one of several.
    fn wait_event(&self, kind: EventKind, requests: &[Acquire], wanted: &TargetTemplate) -> Event {
        let event = Event::of_pool(kind, &wanted.pool).with_template(wanted.fingerprint.as_str());
        let Some(request) = requests.first() else { return event };
        Event {
            run: request.run.clone(),
            worker: request.worker.clone(),
            holder: Some(request.holder.clone()).filter(|holder| !holder.is_empty()),
            ..event
        }
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
            Ok(snapshot) => match shortages::below_disk_floor(&snapshot, wanted.template) {
                Some(sentence) => Error::DiskFloor(sentence),
                None => Error::PoolExhausted(format!(
                    "{}; waited {:.1} s",
                    shortages::exhausted(&snapshot, &wanted.pool),
                    waited.as_secs_f64()
                )),
            },
            Err(error) => error,
        }
    }
}

/// Who makes these requests; several in a batch have one run and one holder, as a rule.
fn holder_of(requests: &[Acquire]) -> TicketHolder {
    let Some(first) = requests.first() else { return TicketHolder::default() };
    let worker = if requests.len() == 1 { first.worker.clone() } else { None };
    TicketHolder { run: first.run.clone(), worker, holder: first.holder.clone() }
}

fn why_waiting(wanted: &TargetTemplate) -> &'static str {
    if wanted.building { "its template is being built" } else { "no database is free" }
}

/// The pool that a request waits for; the first one of a batch until it is known which.
fn pool_of(requests: &[Acquire], wanted: Option<&TargetTemplate>) -> String {
    let pool = wanted.map(|wanted| &wanted.pool).or_else(|| requests.first().map(|request| &request.pool));
    pool.map_or_else(String::new, ToString::to_string)
}
