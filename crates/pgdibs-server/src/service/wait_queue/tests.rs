//! Tests of the wait queue: which waiter a wake-up reaches, and which renewals it holds.

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

/// Regression: the end of any run let every waiter try.
#[tokio::test]
async fn end_of_run_wakes_its_waiters() {
    let wait_queue = WaitQueue::default();
    let tickets = [TicketId(1), TicketId(2), TicketId(3)];
    let [mut first, mut other, mut last] = tickets.map(|ticket| {
        wait_queue.add_waiter(ticket, Some(TEMPLATE));
        wait_queue.subscribe()
    });
    wait_queue.end_with_run(tickets[0], "one");
    wait_queue.end_with_run(tickets[1], "two");
    wait_queue.end_with_run(tickets[2], "one");
    wait_queue.wake_run("one");
    assert!(is_woken(&mut first, &wait_queue, Some(tickets[0])).await);
    assert!(!is_woken(&mut other, &wait_queue, Some(tickets[1])).await);
    assert!(is_woken(&mut last, &wait_queue, Some(tickets[2])).await);
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
    let (backstop, long) = (Duration::from_millis(5), Duration::from_millis(100));
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
