//! Checks about waiting: tickets, batches, announcements, and what is refused at once.

use super::suite::{expect, fingerprint};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::request::{Acquire, Acquired, Announce, TicketId, TicketKind, Wanted};

async fn ticket<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>, wanted: &Wanted, count: u32) -> TicketId {
    expect("a ticket", suite.backend.take_ticket(wanted, count, TicketKind::Acquire).await)
}

async fn asks_again<W: Backend, S: ConformanceServer>(
    suite: &Suite<W, S>,
    acquire_request: &Acquire,
    ticket: TicketId,
) -> bool {
    match suite.backend.acquire(std::slice::from_ref(acquire_request), Some(ticket)).await {
        Ok(Acquired::Granted(leases)) => leases.len() == 1,
        Ok(Acquired::Wait(_)) => false,
        other => panic!("a waiter is granted a database or waits on, not {other:?}"),
    }
}

/// Nothing free: the caller learns what it waits for.
pub async fn a_request_waits_when_nothing_is_free<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    let fingerprint = suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let acquire_request = suite.acquire_request();
    let wanted = suite.must_wait(acquire_request.clone()).await;
    assert_eq!((&wanted.pool, &wanted.fingerprint, wanted.building), (&suite.pool, &fingerprint, false));
    let place = ticket(suite, &wanted, 1).await;
    suite.idle().await;
    assert!(!asks_again(suite, &acquire_request, place).await, "max is reached");
    suite.release(&lease).await;
    suite.idle().await;
    assert!(asks_again(suite, &acquire_request, place).await);
    expect("the ticket, served", suite.backend.drop_ticket(place).await);
    suite.finish(&logins).await;
}

/// Somebody builds it: waiting is what to do.
pub async fn a_waiter_for_a_build_is_served_after_the_seal<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 2, 0).await;
    let wanted_fingerprint = fingerprint("first");
    suite.begin_build(&wanted_fingerprint, "builder").await;
    let acquire_request = Acquire { fingerprint: Some(wanted_fingerprint.clone()), ..suite.acquire_request() };
    let wanted = suite.must_wait(acquire_request.clone()).await;
    assert!(wanted.building);
    let place = ticket(suite, &wanted, 1).await;
    suite.idle().await;
    assert!(!asks_again(suite, &acquire_request, place).await);
    expect("seal", suite.backend.request_seal(&suite.pool, &wanted_fingerprint, "builder").await);
    suite.idle().await;
    assert!(asks_again(suite, &acquire_request, place).await);
    expect("the ticket, served", suite.backend.drop_ticket(place).await);
    suite.finish(&logins).await;
}

/// First come, first served, whoever asks first when one comes free.
pub async fn waiters_are_served_in_the_order_of_their_tickets<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let (first, second) = (suite.acquire_request(), suite.acquire_request());
    let wanted = suite.must_wait(first.clone()).await;
    let first_place = ticket(suite, &wanted, 1).await;
    let second_place = ticket(suite, &wanted, 1).await;
    assert!(first_place < second_place);
    suite.release(&lease).await;
    suite.idle().await;
    assert!(!asks_again(suite, &second, second_place).await, "the first waiter comes first");
    assert!(asks_again(suite, &first, first_place).await);
    expect("the ticket, served", suite.backend.drop_ticket(first_place).await);
    expect("release", suite.backend.end_lease(first.id, pgdibs_core::lease::End::Released, "released").await);
    suite.idle().await;
    assert!(asks_again(suite, &second, second_place).await);
    expect("the ticket, served", suite.backend.drop_ticket(second_place).await);
    suite.finish(&logins).await;
}

/// A request without a ticket comes after everybody who has one.
pub async fn a_newcomer_does_not_overtake_a_waiter<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let waiter = suite.acquire_request();
    let wanted = suite.must_wait(waiter.clone()).await;
    let place = ticket(suite, &wanted, 1).await;
    suite.release(&lease).await;
    suite.idle().await;
    suite.must_wait(suite.acquire_request()).await;
    assert!(asks_again(suite, &waiter, place).await);
    expect("the ticket, served", suite.backend.drop_ticket(place).await);
    suite.finish(&logins).await;
}

/// A ticket that was given up holds nobody back.
pub async fn a_waiter_that_gives_up_makes_way<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let wanted = suite.must_wait(suite.acquire_request()).await;
    let place = ticket(suite, &wanted, 1).await;
    suite.release(&lease).await;
    suite.idle().await;
    expect("give up", suite.backend.drop_ticket(place).await);
    suite.take(suite.acquire_request()).await;
    suite.finish(&logins).await;
}

/// All of them or none: a batch that must wait holds nothing meanwhile.
pub async fn a_batch_gets_all_or_none<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 2, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let run = suite.run_id();
    let batch = [suite.acquire_request_of(&run, "gw0"), suite.acquire_request_of(&run, "gw1")];
    let wanted = match suite.backend.acquire(&batch, None).await {
        Ok(Acquired::Wait(wanted)) => wanted,
        other => panic!("half a batch is not granted: {other:?}"),
    };
    assert_eq!(suite.snapshot().await.leases.iter().filter(|found| found.pool == suite.pool).count(), 1);
    let place = ticket(suite, &wanted, 2).await;
    suite.idle().await;
    suite.must_wait(suite.acquire_request()).await;
    suite.release(&lease).await;
    suite.idle().await;
    match suite.backend.acquire(&batch, Some(place)).await {
        Ok(Acquired::Granted(leases)) => {
            let found: Vec<_> = leases.iter().map(|lease| (lease.id, lease.slot)).collect();
            assert_eq!(found, [(batch[0].id, 0), (batch[1].id, 1)], "in the order of the wishes, each in its slot");
        }
        other => panic!("the batch should be granted, not {other:?}"),
    }
    expect("the ticket, served", suite.backend.drop_ticket(place).await);
    match suite.backend.acquire(&batch, None).await {
        Ok(Acquired::Existing(leases)) => assert_eq!(leases.len(), 2),
        other => panic!("the batch repeated should get the same leases, not {other:?}"),
    }
    suite.finish(&logins).await;
}

/// A key that holds a lease gets it again, also within a batch, and takes no place of its own: one free database is enough for the other.
///
/// Regression: a batch of which one key held a lease already waited until its deadline, beside free databases (found by a
/// check on Postgres and on the fake, which did not agree).
pub async fn a_batch_of_which_a_part_is_held_gets_that_part_again<W: Backend, S: ConformanceServer>(
    suite: &Suite<W, S>,
) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 2, 0).await;
    let run = suite.run_id();
    let held = suite.take(suite.acquire_request_of(&run, "gw1")).await;
    let batch = [suite.acquire_request_of(&run, "gw0"), suite.acquire_request_of(&run, "gw1")];
    match suite.backend.acquire(&batch, None).await {
        Ok(Acquired::Granted(leases)) => {
            let found: Vec<_> = leases.iter().map(|lease| (lease.id, lease.slot)).collect();
            assert_eq!(found, [(batch[0].id, 0), (held.id, 1)]);
        }
        other => panic!("one new and one that is held, not {other:?}"),
    }
    assert_eq!(suite.snapshot().await.leases.iter().filter(|found| found.pool == suite.pool).count(), 2);
    suite.finish(&logins).await;
}

/// More than `max`: refused with the limit instead of kept waiting for ever.
pub async fn what_never_fits_is_refused_at_once<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 2, 0).await;
    let batch = [suite.acquire_request(), suite.acquire_request(), suite.acquire_request()];
    let refused = suite.backend.acquire(&batch, None).await;
    assert!(matches!(refused, Err(Error::CapacityExceeded(_))), "{refused:?}");
    let announce =
        Announce { run: suite.run_id(), pool: suite.pool.clone(), fingerprint: None, workers: 3, aliases: 1 };
    let refused = suite.backend.announce(&announce).await;
    assert!(matches!(refused, Err(Error::CapacityExceeded(_))), "{refused:?}");
    let announce = Announce { fingerprint: Some(fingerprint("nobody put this")), workers: 1, ..announce };
    let refused = suite.backend.announce(&announce).await;
    assert!(matches!(refused, Err(Error::TemplateNotFound(_))), "{refused:?}");
    suite.finish(&logins).await;
}

/// What a run says it will need stands ready before it asks, and falls back when the run ends.
pub async fn an_announced_run_warms_the_pool<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 4, 0).await;
    let run = suite.run_id();
    let announce = Announce { run: run.clone(), pool: suite.pool.clone(), fingerprint: None, workers: 3, aliases: 1 };
    expect("announce", suite.backend.announce(&announce).await);
    suite.idle().await;
    assert_eq!(suite.ready_names().await, [suite.slot(0), suite.slot(1), suite.slot(2)]);
    let lease = suite.take(suite.acquire_request_of(&run, "gw2")).await;
    assert_eq!(lease.slot, 2);
    suite.idle().await;
    assert_eq!(suite.ready_names().await.len(), 2, "two more are announced than held");
    expect("end", suite.backend.end_run(&run).await);
    suite.idle().await;
    assert_eq!(suite.ready_names().await, [suite.slot(0)], "nobody has announced anything any more");
    suite.finish(&logins).await;
}

/// A full pool makes room for whoever is waited for.
pub async fn a_waiter_for_an_old_template_gets_the_slot_of_an_idle_one<W: Backend, S: ConformanceServer>(
    suite: &Suite<W, S>,
) {
    let logins = suite.server.logins().await;
    let old = suite.ready_pool(2, 2, 0).await;
    let newest = fingerprint("second");
    suite.build(&newest).await;
    assert_eq!(suite.ready_names().await.len(), 2);
    let acquire_request = Acquire { fingerprint: Some(old.clone()), ..suite.acquire_request() };
    let wanted = suite.must_wait(acquire_request.clone()).await;
    let place = ticket(suite, &wanted, 1).await;
    suite.idle().await;
    assert!(asks_again(suite, &acquire_request, place).await);
    expect("the ticket, served", suite.backend.drop_ticket(place).await);
    suite.idle().await;
    let lease = suite.take(suite.acquire_request()).await;
    assert_eq!(lease.fingerprint, newest, "one slot stays with the newest template");
    suite.finish(&logins).await;
}
