//! The wait queue: which callers wait and when to wake them. The catalog is the single source of truth; memory holds only wake-ups.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgdibs_core::lease::LeaseId;
use pgdibs_core::request::TicketId;
use pgdibs_core::template::TemplateId;
use tokio::sync::{Notify, watch};

/// Wakes the reconciler when there may be work, and waiters when something may have come free.
///
/// Waking is level-triggered: whoever wakes looks at everything again, so a ring too many only costs a look. With many waiters
/// that is much (each look is a handful of statements, and only one of them can be served), so a waiter for whom nothing can
/// have come free sleeps on: see [`WaitQueue::wake_for_ready`].
#[derive(Debug)]
pub struct WaitQueue {
    reconciler: Notify,
    driver_soon: Notify,
    changes: watch::Sender<WakeUps>,
    /// Who waits here, and for which template, if only a ready database of that one can end the wait.
    waiting: Mutex<BTreeMap<TicketId, Option<TemplateId>>>,
    ready: Mutex<Ready>,
    renewals: Mutex<Renewals>,
}

/// Renewals that have come and that the catalog does not know of.
#[derive(Debug, Default)]
struct Renewals {
    /// Those on their way.
    under_way: BTreeMap<LeaseId, usize>,
    /// Leases of which one could not be written down, or was given up by its caller before it was.
    unwritten: BTreeSet<LeaseId>,
}

/// What stands ready, as far as we know.
#[derive(Debug, Default)]
struct Ready {
    /// Ready databases of each template whose state does not change at present; `None` when we do not know.
    counts: Option<BTreeMap<TemplateId, usize>>,
    /// Databases that were granted since the present count began.
    taken: BTreeMap<TemplateId, usize>,
}

/// How often the wait queue was rung.
#[derive(Debug, Clone, Copy, Default)]
struct WakeUps {
    /// For everybody.
    for_all: u64,
    /// For those whom the databases that stand ready could serve, and for those who wait for something else.
    for_ready: u64,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self {
            reconciler: Notify::new(),
            driver_soon: Notify::new(),
            changes: watch::Sender::new(WakeUps::default()),
            waiting: Mutex::default(),
            ready: Mutex::default(),
            renewals: Mutex::default(),
        }
    }
}

impl WaitQueue {
    /// Tells the reconciler to look.
    pub fn wake_reconciler(&self) {
        self.reconciler.notify_one();
    }

    /// A renewal came. Its lease does not end before what is returned is dropped: it may have to wait for a connection. Unless it was
    /// [`answered`](Renewal::answered) by then, the lease starts a full time to live all the same.
    pub fn renewal_comes(&self, lease: LeaseId) -> Renewal<'_> {
        *lock(&self.renewals).under_way.entry(lease).or_default() += 1;
        Renewal { wait_queue: self, lease, answered: false }
    }

    /// Whether a renewal of this lease has come of which neither the catalog knows yet nor whoever calls [`take_unwritten`](WaitQueue::take_unwritten).
    pub fn is_being_renewed(&self, lease: LeaseId) -> bool {
        let renewals = lock(&self.renewals);
        renewals.under_way.contains_key(&lease) || renewals.unwritten.contains(&lease)
    }

    /// Leases of which a renewal came, since the last question, that was not written down.
    pub fn take_unwritten(&self) -> BTreeSet<LeaseId> {
        std::mem::take(&mut lock(&self.renewals).unwritten)
    }

    /// Resolves when the reconciler is to look.
    pub async fn reconciler_woken(&self) {
        self.reconciler.notified().await;
    }

    /// Tells the reconciler to look when some more has come together: nobody waits for what it will find.
    pub fn wake_reconciler_soon(&self) {
        self.driver_soon.notify_one();
    }

    /// Resolves when the reconciler is to look soon.
    pub async fn reconciler_woken_soon(&self) {
        self.driver_soon.notified().await;
    }

    /// Tells every waiter to look.
    pub fn wake_all(&self) {
        self.changes.send_modify(|rings| rings.for_all += 1);
    }

    /// A count of what is ready begins: what is [`taken`](WaitQueue::taken) from now on may be in it still.
    pub fn counting_started(&self) {
        lock(&self.ready).taken.clear();
    }

    /// Tells those at the head of the queue to look: as many of a template's as databases of it are ready. `None`, and a
    /// template that is not named, means everybody. The counts hold until the next call, less what was or is [`taken`](WaitQueue::taken)
    /// since [`counting_started`](WaitQueue::counting_started).
    pub fn wake_for_ready(&self, mut ready: Option<BTreeMap<TemplateId, usize>>) {
        let mut known = lock(&self.ready);
        for (template, count) in ready.iter_mut().flatten() {
            *count = count.saturating_sub(known.taken.get(template).copied().unwrap_or(0));
        }
        known.counts = ready;
        drop(known);
        self.changes.send_modify(|rings| rings.for_ready += 1);
    }

    /// Databases of these templates were granted, so fewer are ready. Whoever says so wakes the reconciler, which counts again: a count
    /// that was made after the grant already, and is now too low, is put right at once.
    pub fn taken(&self, templates: impl Iterator<Item = TemplateId>) {
        let mut ready = lock(&self.ready);
        for template in templates {
            *ready.taken.entry(template).or_default() += 1;
            if let Some(count) = ready.counts.as_mut().and_then(|counts| counts.get_mut(&template)) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Tells those who wait for spares or for a swap to look, and the head of the queue as before.
    pub fn wake_again(&self) {
        self.changes.send_modify(|rings| rings.for_ready += 1);
    }

    /// Somebody waits here with this ticket; only a ready database of `template`, if one is named, ends the wait.
    pub fn add_waiter(&self, ticket: TicketId, template: Option<TemplateId>) {
        lock(&self.waiting).insert(ticket, template);
    }

    /// Nobody waits with this ticket any more; its row may go.
    pub fn remove_waiter(&self, ticket: TicketId) {
        lock(&self.waiting).remove(&ticket);
    }

    /// The tickets with which somebody waits here.
    pub fn waiting(&self) -> Vec<TicketId> {
        lock(&self.waiting).keys().copied().collect()
    }

    /// Whether a look may be worth it: fewer wait ahead of this ticket than databases are ready, as far as we know.
    fn may_be_served(&self, ticket: TicketId) -> bool {
        let waiting = lock(&self.waiting);
        let Some(Some(template)) = waiting.get(&ticket) else { return true };
        let ahead = waiting.range(..ticket).filter(|(_, wanted)| wanted.as_ref() == Some(template)).count();
        lock(&self.ready).counts.as_ref().and_then(|counts| counts.get(template)).is_none_or(|&ready| ahead < ready)
    }

    /// An ear for [`WaitQueue::wake_all`]. Take it before the first look, or a ring in between is missed.
    pub fn listen(&self) -> Subscription {
        let rings = self.changes.subscribe();
        let for_all = rings.borrow().for_all;
        Subscription { rings, for_all }
    }
}

/// A renewal on its way into the catalog.
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
        let mut renewals = lock(&self.wait_queue.renewals);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hears the wait queue.
#[derive(Debug)]
pub struct Subscription {
    rings: watch::Receiver<WakeUps>,
    /// Rings for everybody that were heard.
    for_all: u64,
}

impl Subscription {
    /// Resolves at the next ring that was not heard yet.
    pub async fn notified(&mut self) {
        // The sender lives as long as the daemon; without it there is nothing to wait for and the caller's deadline decides.
        if self.rings.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.for_all = self.rings.borrow_and_update().for_all;
    }

    /// Resolves at the next ring that may concern the waiter with this ticket.
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

    async fn hears(subscription: &mut Subscription, wait_queue: &WaitQueue, ticket: Option<TicketId>) -> bool {
        // What is rung already resolves at the first poll; the time only bounds the other case.
        tokio::time::timeout(Duration::from_millis(20), subscription.notified_for(wait_queue, ticket)).await.is_ok()
    }

    fn ready(count: usize) -> Option<BTreeMap<TemplateId, usize>> {
        Some(BTreeMap::from([(TEMPLATE, count)]))
    }

    #[tokio::test]
    async fn as_many_of_the_queue_look_as_databases_are_ready() {
        let wait_queue = WaitQueue::default();
        let (first, second, other) = (TicketId(1), TicketId(2), TicketId(3));
        wait_queue.add_waiter(first, Some(TEMPLATE));
        wait_queue.add_waiter(second, Some(TEMPLATE));
        wait_queue.add_waiter(other, Some(TemplateId(8)));
        let (mut one, mut two, mut three, mut free) =
            (wait_queue.listen(), wait_queue.listen(), wait_queue.listen(), wait_queue.listen());

        wait_queue.wake_for_ready(ready(1));
        assert!(hears(&mut one, &wait_queue, Some(first)).await);
        assert!(!hears(&mut two, &wait_queue, Some(second)).await);
        assert!(hears(&mut three, &wait_queue, Some(other)).await, "of its template nothing is known");
        assert!(hears(&mut free, &wait_queue, None).await, "who has no ticket looks for itself");

        wait_queue.remove_waiter(first);
        wait_queue.wake_again();
        assert!(hears(&mut two, &wait_queue, Some(second)).await, "it has moved up");
        wait_queue.wake_for_ready(ready(0));
        assert!(!hears(&mut two, &wait_queue, Some(second)).await);
        wait_queue.wake_all();
        assert!(hears(&mut two, &wait_queue, Some(second)).await);
    }

    /// Regression: a waiter looked 3.6 times for each database it got: what was granted while the reconciler looked was counted as
    /// free, and each look was made for nothing (found by the server's log of statements under `pgdibs-bench`).
    #[tokio::test]
    async fn what_was_granted_while_it_was_being_counted_does_not_wake_the_next_one() {
        let wait_queue = WaitQueue::default();
        wait_queue.add_waiter(TicketId(1), Some(TEMPLATE));
        let mut one = wait_queue.listen();
        wait_queue.taken([TEMPLATE].into_iter());
        wait_queue.counting_started();
        wait_queue.taken([TEMPLATE].into_iter());
        wait_queue.wake_for_ready(ready(1));
        assert!(!hears(&mut one, &wait_queue, Some(TicketId(1))).await);
        wait_queue.counting_started();
        wait_queue.wake_for_ready(ready(1));
        assert!(hears(&mut one, &wait_queue, Some(TicketId(1))).await);
    }

    #[test]
    fn a_lease_is_being_renewed_until_its_last_renewal_is_written() {
        let wait_queue = WaitQueue::default();
        let lease = LeaseId::now_v7();
        let first = wait_queue.renewal_comes(lease);
        let second = wait_queue.renewal_comes(lease);
        first.answered();
        assert!(wait_queue.is_being_renewed(lease) && !wait_queue.is_being_renewed(LeaseId::now_v7()));
        second.answered();
        assert!(!wait_queue.is_being_renewed(lease));
        assert_eq!(wait_queue.take_unwritten(), BTreeSet::new());
    }

    #[test]
    fn a_renewal_that_was_not_written_counts_until_the_driver_has_heard_of_it() {
        let wait_queue = WaitQueue::default();
        let lease = LeaseId::now_v7();
        drop(wait_queue.renewal_comes(lease));
        assert!(wait_queue.is_being_renewed(lease));
        assert_eq!(wait_queue.take_unwritten(), BTreeSet::from([lease]));
        assert!(!wait_queue.is_being_renewed(lease));
    }

    #[tokio::test]
    async fn who_waits_for_more_than_a_ready_database_hears_every_ring() {
        let wait_queue = WaitQueue::default();
        wait_queue.add_waiter(TicketId(1), None);
        wait_queue.add_waiter(TicketId(2), Some(TEMPLATE));
        let (mut one, mut two) = (wait_queue.listen(), wait_queue.listen());
        wait_queue.wake_for_ready(ready(0));
        assert!(hears(&mut one, &wait_queue, Some(TicketId(1))).await);
        assert!(!hears(&mut two, &wait_queue, Some(TicketId(2))).await);
        wait_queue.wake_for_ready(None);
        assert!(hears(&mut two, &wait_queue, Some(TicketId(2))).await, "nothing is known any more");
    }
}
