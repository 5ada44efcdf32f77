//! The wait queue: which callers wait and when to wake them. The catalog is the single source of truth; memory holds only wake-ups.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use pgdibs_core::error::Error;
use pgdibs_core::lease::LeaseId;
use pgdibs_core::request::TicketId;
use pgdibs_core::template::TemplateId;
use tokio::sync::{Notify, watch};

/// Wakes the reconciler when there may be work, and waiters when something may have come free.
///
/// Waking is level-triggered: a woken waiter tries again, so a superfluous wake-up only costs a try. With many waiters that is
/// much (each try is a handful of statements, and only one waiter can be served), so a waiter for whom nothing can have come free
/// is not woken: see [`WaitQueue::wake_for_ready`].
#[derive(Debug, Default)]
pub struct WaitQueue {
    reconciler: Notify,
    reconciler_soon: Notify,
    changes: watch::Sender<WakeUps>,
    /// The waiters, and for which template, if only a ready database of that one can end the wait.
    waiting: Mutex<BTreeMap<TicketId, Option<TemplateId>>>,
    ready: Mutex<Ready>,
    renewals: Mutex<Renewals>,
    /// Why the server is unreachable, while it is.
    outage: watch::Sender<Option<Error>>,
}

/// Renewals that were received and that the catalog does not know of.
#[derive(Debug, Default)]
struct Renewals {
    /// Those that are being written.
    under_way: BTreeMap<LeaseId, usize>,
    /// Leases of which one could not be written, or whose caller disconnected before it was.
    unwritten: BTreeSet<LeaseId>,
}

/// Which databases are ready, as far as is known.
#[derive(Debug, Default)]
struct Ready {
    /// Ready databases of each template that the current plan does not change; `None` when that is not known.
    counts: Option<BTreeMap<TemplateId, usize>>,
    /// Databases that were granted since the current count began.
    granted: BTreeMap<TemplateId, usize>,
}

/// How many wake-ups there were.
#[derive(Debug, Clone, Copy, Default)]
struct WakeUps {
    /// For every waiter.
    for_all: u64,
    /// For waiters that the ready databases can serve, and for those that wait for something else.
    for_ready: u64,
}

impl WaitQueue {
    /// Wakes the reconciler.
    pub fn wake_reconciler(&self) {
        self.reconciler.notify_one();
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
    /// Unless it was [`answered`](Renewal::answered) by then, the lease starts a full time to live all the same.
    pub fn renewal_received(&self, lease: LeaseId) -> Renewal<'_> {
        *self.renewals.lock().under_way.entry(lease).or_default() += 1;
        Renewal { wait_queue: self, lease, answered: false }
    }

    /// Whether a renewal of this lease was received that is neither in the catalog nor taken by [`take_unwritten`](WaitQueue::take_unwritten).
    pub fn is_being_renewed(&self, lease: LeaseId) -> bool {
        let renewals = self.renewals.lock();
        renewals.under_way.contains_key(&lease) || renewals.unwritten.contains(&lease)
    }

    /// Leases of which a renewal was received but not written since the last call.
    pub fn take_unwritten(&self) -> BTreeSet<LeaseId> {
        std::mem::take(&mut self.renewals.lock().unwritten)
    }

    /// Resolves when the reconciler is woken.
    pub async fn reconciler_woken(&self) {
        self.reconciler.notified().await;
    }

    /// Wakes the reconciler a little later, when no caller waits for what it will do.
    pub fn wake_reconciler_soon(&self) {
        self.reconciler_soon.notify_one();
    }

    /// Resolves when the reconciler is to be woken a little later.
    pub async fn reconciler_woken_soon(&self) {
        self.reconciler_soon.notified().await;
    }

    /// Wakes every waiter.
    pub fn wake_all(&self) {
        self.changes.send_modify(|wake_ups| wake_ups.for_all += 1);
    }

    /// A count of ready databases begins: what is [`granted`](WaitQueue::granted) from now on may still be in it.
    pub fn counting_started(&self) {
        self.ready.lock().granted.clear();
    }

    /// Wakes the head of the queue: as many waiters of a template as databases of it are ready. `None`, and a template that is not
    /// named, wakes all. The counts hold until the next call, less what is [`granted`](WaitQueue::granted) since
    /// [`counting_started`](WaitQueue::counting_started).
    pub fn wake_for_ready(&self, mut ready: Option<BTreeMap<TemplateId, usize>>) {
        let mut known = self.ready.lock();
        for (template, count) in ready.iter_mut().flatten() {
            *count = count.saturating_sub(known.granted.get(template).copied().unwrap_or(0));
        }
        known.counts = ready;
        drop(known);
        self.changes.send_modify(|wake_ups| wake_ups.for_ready += 1);
    }

    /// Databases of these templates were granted, so fewer are ready. The caller then wakes the reconciler, which counts again: a count
    /// that was made after the grant, and is now too low, is corrected at once.
    pub fn granted(&self, templates: impl Iterator<Item = TemplateId>) {
        let mut ready = self.ready.lock();
        for template in templates {
            *ready.granted.entry(template).or_default() += 1;
            if let Some(count) = ready.counts.as_mut().and_then(|counts| counts.get_mut(&template)) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Wakes waiters as the last [`WaitQueue::wake_for_ready`] did: its counts still hold. Waiters for spares or a swap are among them.
    pub fn wake_with_last_counts(&self) {
        self.changes.send_modify(|wake_ups| wake_ups.for_ready += 1);
    }

    /// A waiter has this ticket; only a ready database of `template`, if one is named, ends its wait.
    pub fn add_waiter(&self, ticket: TicketId, template: Option<TemplateId>) {
        self.waiting.lock().insert(ticket, template);
    }

    /// No waiter has this ticket any more; its row may be deleted.
    pub fn remove_waiter(&self, ticket: TicketId) {
        self.waiting.lock().remove(&ticket);
    }

    /// The tickets of the waiters of this daemon.
    pub fn waiting(&self) -> Vec<TicketId> {
        self.waiting.lock().keys().copied().collect()
    }

    /// Whether a try can succeed: fewer waiters are ahead of this ticket than databases are ready, as far as is known.
    fn may_be_served(&self, ticket: TicketId) -> bool {
        let waiting = self.waiting.lock();
        let Some(Some(template)) = waiting.get(&ticket) else { return true };
        let ahead = waiting.range(..ticket).filter(|(_, wanted)| wanted.as_ref() == Some(template)).count();
        self.ready.lock().counts.as_ref().and_then(|counts| counts.get(template)).is_none_or(|&ready| ahead < ready)
    }

    /// Subscribes to wake-ups. Subscribe before the first try, or a wake-up in between is missed.
    pub fn subscribe(&self) -> Subscription {
        let wake_ups = self.changes.subscribe();
        let for_all = wake_ups.borrow().for_all;
        Subscription { wake_ups, for_all }
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
    /// The catalog has it, or has said that there is no such live lease.
    pub fn answered(mut self) {
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
    wake_ups: watch::Receiver<WakeUps>,
    /// Wake-ups for every waiter that were received.
    for_all: u64,
}

impl Subscription {
    /// Resolves at the next wake-up that was not received yet.
    pub async fn notified(&mut self) {
        // The sender lives as long as the daemon; without it there is nothing to wait for and the caller's deadline decides.
        if self.wake_ups.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.for_all = self.wake_ups.borrow_and_update().for_all;
    }

    /// Resolves at the next wake-up that may concern the waiter with this ticket.
    pub async fn notified_for(&mut self, wait_queue: &WaitQueue, ticket: Option<TicketId>) {
        loop {
            let before = self.for_all;
            self.notified().await;
            if self.for_all != before || ticket.is_none_or(|ticket| wait_queue.may_be_served(ticket)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TEMPLATE: TemplateId = TemplateId(7);

    async fn is_woken(subscription: &mut Subscription, wait_queue: &WaitQueue, ticket: Option<TicketId>) -> bool {
        // A wake-up that has come resolves at the first poll; the time only bounds the other case.
        tokio::time::timeout(Duration::from_millis(20), subscription.notified_for(wait_queue, ticket)).await.is_ok()
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
        assert!(is_woken(&mut three, &wait_queue, Some(other)).await, "nothing is known about its template");
        assert!(is_woken(&mut free, &wait_queue, None).await, "without a ticket every wake-up counts");

        wait_queue.remove_waiter(first);
        wait_queue.wake_with_last_counts();
        assert!(is_woken(&mut two, &wait_queue, Some(second)).await, "it has moved up");
        wait_queue.wake_for_ready(ready(0));
        assert!(!is_woken(&mut two, &wait_queue, Some(second)).await);
        wait_queue.wake_all();
        assert!(is_woken(&mut two, &wait_queue, Some(second)).await);
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
        first.answered();
        assert!(wait_queue.is_being_renewed(lease) && !wait_queue.is_being_renewed(LeaseId::now_v7()));
        second.answered();
        assert!(!wait_queue.is_being_renewed(lease));
        assert_eq!(wait_queue.take_unwritten(), BTreeSet::new());
    }

    #[test]
    fn unwritten_renewal_counts_until_taken() {
        let wait_queue = WaitQueue::default();
        let lease = LeaseId::now_v7();
        drop(wait_queue.renewal_received(lease));
        assert!(wait_queue.is_being_renewed(lease));
        assert_eq!(wait_queue.take_unwritten(), BTreeSet::from([lease]));
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
