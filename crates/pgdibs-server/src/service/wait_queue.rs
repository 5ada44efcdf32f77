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

    /// No waiter has this ticket any more; its row may be deleted. The waiters that move up are woken if they can be served.
    pub fn remove_waiter(&self, ticket: TicketId) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.queue.lock();
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

/// A subscription to the wait queue.
#[derive(Debug)]
pub struct Subscription {
    for_all: watch::Receiver<()>,
    for_others: watch::Receiver<()>,
}

impl Subscription {
    /// Resolves at the next wake-up that may concern the waiter with this ticket and was not received yet, or after `backstop`. With a
    /// backstop only the first waiter of a template tries, since no other one is served before it.
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
            while let Some((_, is_first)) = wait_queue.place(ticket) {
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
mod tests {
    use std::time::Duration;

    use super::*;

    const TEMPLATE: TemplateId = TemplateId(7);

    async fn is_woken(subscription: &mut Subscription, wait_queue: &WaitQueue, ticket: Option<TicketId>) -> bool {
        // A wake-up that has come resolves at the first poll; the time only bounds the other case.
        let woken = subscription.notified(wait_queue, ticket, Duration::from_secs(3600));
        tokio::time::timeout(Duration::from_millis(20), woken).await.is_ok()
    }

    fn ready(count: usize) -> Option<BTreeMap<TemplateId, usize>> {
        Some(BTreeMap::from([(TEMPLATE, count)]))
    }

    #[tokio::test]
    async fn wake_for_ready_wakes_as_many_waiters_as_databases() {
        let wait_queue = WaitQueue::default();
        let (first, second, other) = (TicketId(1), TicketId(2), TicketId(3));
        wait_queue.add_waiter(first, Some(TEMPLATE));
        wait_queue.add_waiter(second, Some(TEMPLATE));
        wait_queue.add_waiter(other, Some(TemplateId(8)));
        let (mut one, mut two, mut three, mut free) =
            (wait_queue.subscribe(), wait_queue.subscribe(), wait_queue.subscribe(), wait_queue.subscribe());

        wait_queue.wake_for_ready(ready(1));
        assert!(is_woken(&mut one, &wait_queue, Some(first)).await);
        assert!(!is_woken(&mut two, &wait_queue, Some(second)).await);
        assert!(is_woken(&mut three, &wait_queue, Some(other)).await, "the plan changes its template");
        assert!(is_woken(&mut free, &wait_queue, None).await, "without a ticket every wake-up counts");

        wait_queue.remove_waiter(first);
        assert!(is_woken(&mut two, &wait_queue, Some(second)).await, "it has moved up");
        wait_queue.wake_with_last_counts();
        assert!(is_woken(&mut two, &wait_queue, Some(second)).await);
        wait_queue.wake_for_ready(ready(0));
        assert!(!is_woken(&mut two, &wait_queue, Some(second)).await);
        wait_queue.wake_all();
        assert!(is_woken(&mut two, &wait_queue, Some(second)).await);
    }

    /// A daemon that does not lead counts nothing. Regression: each change woke all of its waiters, of which one could be served.
    #[tokio::test]
    async fn waiters_are_woken_one_after_the_other_while_nothing_is_counted() {
        let wait_queue = WaitQueue::default();
        let tickets = [TicketId(1), TicketId(2), TicketId(3)];
        let mut waiters = tickets.map(|ticket| {
            wait_queue.add_waiter(ticket, Some(TEMPLATE));
            wait_queue.subscribe()
        });
        wait_queue.wake_for_ready(None);
        assert!(!is_woken(&mut waiters[1], &wait_queue, Some(tickets[1])).await);
        assert!(is_woken(&mut waiters[0], &wait_queue, Some(tickets[0])).await);
        wait_queue.remove_waiter(tickets[0]);
        assert!(is_woken(&mut waiters[1], &wait_queue, Some(tickets[1])).await, "the first was granted");
        assert!(!is_woken(&mut waiters[2], &wait_queue, Some(tickets[2])).await);
    }

    /// Regression: each of 1,000 waiters tried twice a second, which kept the server busy and the one that could be served waiting.
    #[tokio::test]
    async fn backstop_lets_only_the_first_waiter_try() {
        let wait_queue = WaitQueue::default();
        let (first, second) = (TicketId(1), TicketId(2));
        wait_queue.add_waiter(first, Some(TEMPLATE));
        wait_queue.add_waiter(second, Some(TEMPLATE));
        let (mut one, mut two) = (wait_queue.subscribe(), wait_queue.subscribe());
        let (backstop, long) = (Duration::from_millis(1), Duration::from_millis(100));
        one.notified(&wait_queue, Some(first), backstop).await;
        assert!(tokio::time::timeout(long, two.notified(&wait_queue, Some(second), backstop)).await.is_err());
        wait_queue.remove_waiter(first);
        assert!(is_woken(&mut two, &wait_queue, Some(second)).await);
        two.notified(&wait_queue, Some(second), backstop).await;
    }

    /// Regression: a waiter tried 3.6 times for each database it got: what was granted while the reconciler counted was counted as
    /// ready, and each try was in vain (found by the server's log of statements under `pgdibs-bench`).
    #[tokio::test]
    async fn database_granted_during_count_wakes_no_waiter() {
        let wait_queue = WaitQueue::default();
        wait_queue.add_waiter(TicketId(1), Some(TEMPLATE));
        let mut one = wait_queue.subscribe();
        wait_queue.granted([TEMPLATE].into_iter());
        wait_queue.counting_started();
        wait_queue.granted([TEMPLATE].into_iter());
        wait_queue.wake_for_ready(ready(1));
        assert!(!is_woken(&mut one, &wait_queue, Some(TicketId(1))).await);
        wait_queue.counting_started();
        wait_queue.wake_for_ready(ready(1));
        assert!(is_woken(&mut one, &wait_queue, Some(TicketId(1))).await);
    }

    #[test]
    fn lease_is_being_renewed_until_last_renewal_is_written() {
        let wait_queue = WaitQueue::default();
        let lease = LeaseId::now_v7();
        let first = wait_queue.renewal_received(lease);
        let second = wait_queue.renewal_received(lease);
        first.refused();
        assert!(wait_queue.is_being_renewed(lease) && !wait_queue.is_being_renewed(LeaseId::now_v7()));
        second.written(3, 60);
        assert!(!wait_queue.is_being_renewed(lease));
        let (written, unwritten) = wait_queue.take_renewals();
        assert_eq!(unwritten, BTreeSet::new());
        let found = written.get(&lease).map(|written| (written.renewals, written.ttl));
        assert_eq!(found, Some((3, Duration::from_secs(60))));
    }

    #[test]
    fn unwritten_renewal_counts_until_taken() {
        let wait_queue = WaitQueue::default();
        let lease = LeaseId::now_v7();
        drop(wait_queue.renewal_received(lease));
        assert!(wait_queue.is_being_renewed(lease));
        assert_eq!(wait_queue.take_renewals(), (BTreeMap::new(), BTreeSet::from([lease])));
        assert!(!wait_queue.is_being_renewed(lease));
    }

    #[tokio::test]
    async fn waiter_without_template_is_woken_every_time() {
        let wait_queue = WaitQueue::default();
        wait_queue.add_waiter(TicketId(1), None);
        wait_queue.add_waiter(TicketId(2), Some(TEMPLATE));
        let (mut one, mut two) = (wait_queue.subscribe(), wait_queue.subscribe());
        wait_queue.wake_for_ready(ready(0));
        assert!(is_woken(&mut one, &wait_queue, Some(TicketId(1))).await);
        assert!(!is_woken(&mut two, &wait_queue, Some(TicketId(2))).await);
        wait_queue.wake_for_ready(None);
        assert!(is_woken(&mut two, &wait_queue, Some(TicketId(2))).await, "nothing is known any more");
    }
}
