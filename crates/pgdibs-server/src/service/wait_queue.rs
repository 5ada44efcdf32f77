//! The wait queue: which callers wait and when to wake them. The catalog is the single source of truth; memory holds only wake-ups.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pgdibs_core::error::Error;
use pgdibs_core::lease::LeaseId;
use pgdibs_core::request::TicketId;
use pgdibs_core::template::TemplateId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Wakes the reconciler when there may be work, and waiters when something may have come free.
///
/// Waking is level-triggered: a woken waiter tries again, so a superfluous wake-up only costs a try. With many waiters that is
/// much (each try is a handful of statements, and only one waiter can be served), so a waiter for whom nothing can have come free
/// is not woken: see [`WaitQueue::wake_for_ready`].
#[derive(Debug, Default)]
pub struct WaitQueue {
    reconciler: Notify,
    reconciler_soon: Notify,
    /// Whether a wake-up of the reconciler since the last [`take_own_change`](WaitQueue::take_own_change) came from this daemon.
    own_change: AtomicBool,
    /// Wake-ups for every waiter.
    for_all: watch::Sender<()>,
    /// Wake-ups for the waiters that wait for something else than a ready database of one template.
    for_others: watch::Sender<()>,
    /// How often a waiter has asked for a ticket or left with one.
    tickets: AtomicU64,
    queue: Mutex<Queue>,
    renewals: Mutex<Renewals>,
    /// Why the server is unreachable, while it is.
    outage: watch::Sender<Option<Error>>,
}

/// Renewals that were received and that the reconciler does not know of.
#[derive(Debug, Default)]
struct Renewals {
    /// Those that are being written.
    under_way: BTreeMap<LeaseId, usize>,
    /// Leases of which one could not be written, or whose caller disconnected before it was.
    unwritten: BTreeSet<LeaseId>,
    /// The last one of each lease that was written.
    written: BTreeMap<LeaseId, Written>,
}

/// A renewal that the catalog has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The lease's counter of renewals after it.
    pub renewals: u64,
    /// The time to live from then on.
    pub ttl: Duration,
    /// When it was known to be written.
    pub at: Instant,
}

/// The waiters with tickets, and which databases are ready, as far as is known.
#[derive(Debug, Default)]
struct Queue {
    /// Every waiter, and for which template, if only a ready database of that one can end the wait.
    waiting: BTreeMap<TicketId, Option<TemplateId>>,
    /// Waiters whose wait the end of a run ends.
    by_run: BTreeSet<(String, TicketId)>,
    /// Those that name a template, by template.
    by_template: BTreeMap<TemplateId, BTreeMap<TicketId, Arc<Notify>>>,
    /// Ready databases of each template that the current plan does not change; `None` when that is not known.
    counts: Option<BTreeMap<TemplateId, usize>>,
    /// Databases that were granted since the current count began.
    granted: BTreeMap<TemplateId, usize>,
}

impl Queue {
    /// How many waiters of a template a try can serve: as many as databases are ready; all when the plan changes the template, so that they
    /// learn how; the first one when nothing is known, whose grant wakes the next.
    fn servable(&self, template: TemplateId) -> usize {
        match &self.counts {
            None => 1,
            Some(counts) => counts.get(&template).copied().unwrap_or(usize::MAX),
        }
    }

    fn wake(&self, template: TemplateId) {
        let waiters = self.by_template.get(&template).into_iter().flatten();
        waiters.take(self.servable(template)).for_each(|(_, waiter)| waiter.notify_one());
    }

    fn wake_servable(&self) {
        self.by_template.keys().for_each(|&template| self.wake(template));
    }
}

impl WaitQueue {
    /// Wakes the reconciler: this daemon changed something.
    pub fn wake_reconciler(&self) {
        self.own_change.store(true, Ordering::Relaxed);
        self.reconciler.notify_one();
    }

    /// Wakes the reconciler: another daemon changed something, or may have.
    pub fn wake_reconciler_for_others(&self) {
        self.reconciler.notify_one();
    }

    /// Whether this daemon has woken the reconciler since the last call.
    pub fn take_own_change(&self) -> bool {
        self.own_change.swap(false, Ordering::Relaxed)
    }

    /// The reconciler found the server unreachable, or found that it answers.
    pub fn set_outage(&self, outage: Option<Error>) {
        self.outage.send_replace(outage);
    }

    /// The error of the outage that the reconciler knows of.
    pub fn outage(&self) -> Option<Error> {
        self.outage.borrow().clone()
    }

    /// Resolves with the error of an outage as soon as the reconciler knows of one.
    pub async fn outage_known(&self) -> Error {
        let mut outages = self.outage.subscribe();
        // The sender lives as long as `self`, so there is always an outcome.
        match outages.wait_for(Option::is_some).await.ok().and_then(|outage| outage.clone()) {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// A renewal was received. Its lease does not end before the returned value is dropped: the renewal may have to wait for a connection.
    /// Unless it was [`written`](Renewal::written) or [`refused`](Renewal::refused) by then, the lease starts a full time to live all the
    /// same.
    pub fn renewal_received(&self, lease: LeaseId) -> Renewal<'_> {
        *self.renewals.lock().under_way.entry(lease).or_default() += 1;
        Renewal { wait_queue: self, lease, answered: false }
    }

    /// Whether a renewal of this lease was received that is neither in the catalog nor taken by [`take_renewals`](WaitQueue::take_renewals).
    pub fn is_being_renewed(&self, lease: LeaseId) -> bool {
        let renewals = self.renewals.lock();
        renewals.under_way.contains_key(&lease) || renewals.unwritten.contains(&lease)
    }

    /// The renewals that were written since the last call, and the leases of which one was received but not written.
    pub fn take_renewals(&self) -> (BTreeMap<LeaseId, Written>, BTreeSet<LeaseId>) {
        let mut renewals = self.renewals.lock();
        (std::mem::take(&mut renewals.written), std::mem::take(&mut renewals.unwritten))
    }

    /// Resolves when the reconciler is woken.
    pub async fn reconciler_woken(&self) {
        self.reconciler.notified().await;
    }

    /// Wakes the reconciler a little later, when no caller waits for what it will do.
    pub fn wake_reconciler_soon(&self) {
        self.own_change.store(true, Ordering::Relaxed);
        self.reconciler_soon.notify_one();
    }

    /// Resolves when the reconciler is to be woken a little later.
    pub async fn reconciler_woken_soon(&self) {
        self.reconciler_soon.notified().await;
    }

    /// Wakes every waiter.
    pub fn wake_all(&self) {
        self.for_all.send_replace(());
    }

    /// A count of ready databases begins: what is [`granted`](WaitQueue::granted) from now on may still be in it.
    pub fn counting_started(&self) {
        self.queue.lock().granted.clear();
    }

    /// Wakes the head of each template's queue: as many waiters as databases of it are ready; all of a template that is not named; one when
    /// nothing is known (`None`). Waiters for something else are woken as well. The counts hold until the next call, less what is
    /// [`granted`](WaitQueue::granted) since [`counting_started`](WaitQueue::counting_started).
    pub fn wake_for_ready(&self, mut ready: Option<BTreeMap<TemplateId, usize>>) {
        let mut queue = self.queue.lock();
        for (template, count) in ready.iter_mut().flatten() {
            *count = count.saturating_sub(queue.granted.get(template).copied().unwrap_or(0));
        }
        queue.counts = ready;
        queue.wake_servable();
        drop(queue);
        self.for_others.send_replace(());
    }

    /// Databases of these templates were granted, so fewer are ready. The caller then wakes the reconciler, which counts again: a count
    /// that was made after the grant, and is now too low, is corrected at once.
    pub fn granted(&self, templates: impl Iterator<Item = TemplateId>) {
        let mut queue = self.queue.lock();
        for template in templates {
            *queue.granted.entry(template).or_default() += 1;
            if let Some(count) = queue.counts.as_mut().and_then(|counts| counts.get_mut(&template)) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Wakes waiters as the last [`WaitQueue::wake_for_ready`] did: its counts still hold. Waiters for spares or a swap are among them.
    pub fn wake_with_last_counts(&self) {
        self.queue.lock().wake_servable();
        self.for_others.send_replace(());
    }

    /// A waiter is about to take a ticket, whose row it may not get to know.
    pub fn ticket_requested(&self) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
    }

    /// A waiter has this ticket; only a ready database of `template`, if one is named, ends its wait.
    pub fn add_waiter(&self, ticket: TicketId, template: Option<TemplateId>) {
        let mut queue = self.queue.lock();
        queue.waiting.insert(ticket, template);
        if let Some(template) = template {
            queue.by_template.entry(template).or_default().insert(ticket, Arc::default());
        }
    }

    /// The end of this run ends the wait of the waiter with this ticket.
    pub fn end_with_run(&self, ticket: TicketId, run: &str) {
        self.queue.lock().by_run.insert((run.to_owned(), ticket));
    }

    /// Wakes the waiters of a run, which has ended, and those that wait for something else than a ready database of one template.
    pub fn wake_run(&self, run: &str) {
        let queue = self.queue.lock();
        for (_, ticket) in queue.by_run.iter().filter(|(of, _)| of == run) {
            let template = queue.waiting.get(ticket).copied().flatten();
            if let Some(waiter) = template.and_then(|template| queue.by_template.get(&template)?.get(ticket)) {
                waiter.notify_one();
            }
        }
        drop(queue);
        self.for_others.send_replace(());
    }

    /// No waiter has this ticket any more; its row may be deleted. The waiters that move up are woken if they can be served.
    pub fn remove_waiter(&self, ticket: TicketId) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        queue.by_run.retain(|(_, of)| *of != ticket);
        let Some(Some(template)) = queue.waiting.remove(&ticket) else { return };
        if let Entry::Occupied(mut waiters) = queue.by_template.entry(template) {
            waiters.get_mut().remove(&ticket);
            if waiters.get().is_empty() {
                waiters.remove();
            }
        }
        queue.wake(template);
    }

    /// A number that changes whenever a ticket may be taken or left, and the tickets of the waiters of this daemon.
    pub fn tickets(&self) -> (u64, Vec<TicketId>) {
        let number = self.tickets.load(Ordering::Relaxed);
        (number, self.queue.lock().waiting.keys().copied().collect())
    }

    /// The wake-ups of the waiter with this ticket, unless it is woken each time; and whether it is the first of its template.
    fn place(&self, ticket: Option<TicketId>) -> Option<(Arc<Notify>, bool)> {
        let queue = self.queue.lock();
        let ticket = ticket?;
        let template = queue.waiting.get(&ticket).copied().flatten()?;
        let waiters = queue.by_template.get(&template)?;
        let is_first = waiters.first_key_value().is_some_and(|(first, _)| *first == ticket);
        Some((Arc::clone(waiters.get(&ticket)?), is_first))
    }

    /// Subscribes to wake-ups. Subscribe before the first try, or a wake-up in between is missed.
    pub fn subscribe(&self) -> Subscription {
        Subscription { for_all: self.for_all.subscribe(), for_others: self.for_others.subscribe() }
    }
}

/// A renewal that is being written.
#[derive(Debug)]
pub struct Renewal<'a> {
    wait_queue: &'a WaitQueue,
    lease: LeaseId,
    answered: bool,
}

impl Renewal<'_> {
    /// The catalog has it: the lease's counter of renewals, and its time to live, after it.
    pub fn written(mut self, renewals: u64, ttl_seconds: u64) {
        self.answered = true;
        let written = Written { renewals, ttl: Duration::from_secs(ttl_seconds), at: Instant::now() };
        let mut renewals = self.wait_queue.renewals.lock();
        let last = renewals.written.entry(self.lease).or_insert(written);
        if last.renewals < written.renewals {
            *last = written;
        }
    }

    /// The catalog has said that there is no such live lease.
    pub fn refused(mut self) {
        self.answered = true;
    }
}

impl Drop for Renewal<'_> {
    fn drop(&mut self) {
        let mut renewals = self.wait_queue.renewals.lock();
        if !self.answered {
            renewals.unwritten.insert(self.lease);
        }
        if let Entry::Occupied(mut count) = renewals.under_way.entry(self.lease) {
            match count.get() {
                1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
    }
}

/// A waiter that is not the first of its template tries after so many backstops of ten times the length.
const MISSED: u32 = 6;

/// A subscription to the wait queue.
#[derive(Debug)]
pub struct Subscription {
    for_all: watch::Receiver<()>,
    for_others: watch::Receiver<()>,
}

impl Subscription {
    /// Resolves at the next wake-up that may concern the waiter with this ticket and was not received yet, or after `backstop`; of the
    /// waiters of one template only the first one does so, since no other one is served before it. The others try after sixty times as long:
    /// their run may have ended through another daemon.
    pub async fn notified(&mut self, wait_queue: &WaitQueue, ticket: Option<TicketId>, backstop: Duration) {
        let Self { for_all, for_others } = self;
        let Some((place, _)) = wait_queue.place(ticket) else {
            tokio::select! {
                () = changed(for_all) => {}
                () = changed(for_others) => {}
                () = tokio::time::sleep(backstop) => {}
            }
            return;
        };
        let is_first = async {
            for _ in 0..MISSED {
                let is_first = wait_queue.place(ticket).is_none_or(|(_, is_first)| is_first);
                tokio::time::sleep(if is_first { backstop } else { backstop * 10 }).await;
                if is_first {
                    return;
                }
            }
        };
        tokio::select! {
            () = changed(for_all) => {}
            () = place.notified() => {}
            () = is_first => {}
        }
    }
}

/// The sender lives as long as the daemon; without it there is nothing to wait for and the caller's deadline decides.
async fn changed(wake_ups: &mut watch::Receiver<()>) {
    if wake_ups.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
