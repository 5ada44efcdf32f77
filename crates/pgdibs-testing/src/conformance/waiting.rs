//! Checks of waiting: tickets, batches, announcements, and requests above the limits.

use super::suite::{expect, fingerprint};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::lease::End;
use pgdibs_core::request::{Acquire, Acquired, Announce, TargetTemplate, TicketId, TicketKind};

async fn ticket<B: Backend, S: ConformanceServer>(
    suite: &Suite<B, S>,
    target: &TargetTemplate,
    count: u32,
) -> TicketId {
    expect(
        "a ticket",
        suite
            .backend
            .take_ticket(target, count, TicketKind::Acquire, &pgdibs_core::request::TicketHolder::default())
            .await,
    )
}

async fn retry_acquire<B: Backend, S: ConformanceServer>(
    suite: &Suite<B, S>,
    acquire_request: &Acquire,
    ticket: TicketId,
) -> bool {
    match suite.backend.acquire(std::slice::from_ref(acquire_request), Some(ticket)).await {
        Ok(Acquired::Granted(leases)) => leases.len() == 1,
        Ok(Acquired::Wait(_)) => false,
        other => panic!("neither a grant nor a wait: {other:?}"),
    }
}

/// The result of a request without a free database names the template to wait for.
pub async fn acquire_waits_when_no_database_is_free<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let fingerprint = suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let acquire_request = suite.acquire_request();
    let target = suite.must_wait(acquire_request.clone()).await;
    assert_eq!((&target.pool, &target.fingerprint, target.building), (&suite.pool, &fingerprint, false));
    let place = ticket(suite, &target, 1).await;
    suite.idle().await;
    assert!(!retry_acquire(suite, &acquire_request, place).await, "max is reached");
    suite.release(&lease).await;
    suite.idle().await;
    assert!(retry_acquire(suite, &acquire_request, place).await);
    expect("drop the served ticket", suite.backend.drop_ticket(place).await);
    suite.finish(&logins).await;
}

/// A request for a template that is being built waits for the seal.
pub async fn ticket_for_a_build_is_served_after_seal<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 2, 0).await;
    let wanted_fingerprint = fingerprint("first");
    suite.begin_build(&wanted_fingerprint, "builder").await;
    let acquire_request = Acquire { fingerprint: Some(wanted_fingerprint.clone()), ..suite.acquire_request() };
    let target = suite.must_wait(acquire_request.clone()).await;
    assert!(target.building);
    let place = ticket(suite, &target, 1).await;
    suite.idle().await;
    assert!(!retry_acquire(suite, &acquire_request, place).await);
    expect("seal", suite.backend.request_seal(&suite.pool, &wanted_fingerprint, "builder").await);
    suite.idle().await;
    assert!(retry_acquire(suite, &acquire_request, place).await);
    expect("drop the served ticket", suite.backend.drop_ticket(place).await);
    suite.finish(&logins).await;
}

/// A free database goes to the first ticket, whichever request comes first.
pub async fn tickets_are_served_in_order<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let (first, second) = (suite.acquire_request(), suite.acquire_request());
    let target = suite.must_wait(first.clone()).await;
    let first_place = ticket(suite, &target, 1).await;
    let second_place = ticket(suite, &target, 1).await;
    assert!(first_place < second_place);
    suite.release(&lease).await;
    suite.idle().await;
    assert!(!retry_acquire(suite, &second, second_place).await, "the first ticket has precedence");
    assert!(retry_acquire(suite, &first, first_place).await);
    expect("drop the served ticket", suite.backend.drop_ticket(first_place).await);
    expect("release", suite.backend.end_lease(first.id, End::Released, "released").await);
    suite.idle().await;
    assert!(retry_acquire(suite, &second, second_place).await);
    expect("drop the served ticket", suite.backend.drop_ticket(second_place).await);
    suite.finish(&logins).await;
}

/// Tickets have precedence over a request without one.
pub async fn acquire_without_ticket_waits_behind_tickets<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let waiter = suite.acquire_request();
    let target = suite.must_wait(waiter.clone()).await;
    let place = ticket(suite, &target, 1).await;
    suite.release(&lease).await;
    suite.idle().await;
    suite.must_wait(suite.acquire_request()).await;
    assert!(retry_acquire(suite, &waiter, place).await);
    expect("drop the served ticket", suite.backend.drop_ticket(place).await);
    suite.finish(&logins).await;
}

/// A dropped ticket has no further effect.
pub async fn dropped_ticket_delays_no_other_request<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let target = suite.must_wait(suite.acquire_request()).await;
    let place = ticket(suite, &target, 1).await;
    suite.release(&lease).await;
    suite.idle().await;
    expect("drop the ticket", suite.backend.drop_ticket(place).await);
    suite.take(suite.acquire_request()).await;
    suite.finish(&logins).await;
}

/// A waiting batch has no leases.
pub async fn batch_is_granted_whole_or_not_at_all<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 2, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let run = suite.run_id();
    let batch = [suite.acquire_request_of(&run, "gw0"), suite.acquire_request_of(&run, "gw1")];
    let target = match suite.backend.acquire(&batch, None).await {
        Ok(Acquired::Wait(target)) => target,
        other => panic!("a part of a batch was granted: {other:?}"),
    };
    assert_eq!(suite.snapshot().await.leases.iter().filter(|found| found.pool == suite.pool).count(), 1);
    let place = ticket(suite, &target, 2).await;
    suite.idle().await;
    suite.must_wait(suite.acquire_request()).await;
    suite.release(&lease).await;
    suite.idle().await;
    match suite.backend.acquire(&batch, Some(place)).await {
        Ok(Acquired::Granted(leases)) => {
            let found: Vec<_> = leases.iter().map(|lease| (lease.id, lease.slot)).collect();
            assert_eq!(found, [(batch[0].id, 0), (batch[1].id, 1)], "in the order of the requests, each in its slot");
        }
        other => panic!("the batch was not granted: {other:?}"),
    }
    expect("drop the served ticket", suite.backend.drop_ticket(place).await);
    match suite.backend.acquire(&batch, None).await {
        Ok(Acquired::Existing(leases)) => assert_eq!(leases.len(), 2),
        other => panic!("the repeated batch got other leases: {other:?}"),
    }
    suite.finish(&logins).await;
}

/// In a batch, a key with a live lease gets that lease, so one free database is enough for the other key.
///
/// Regression: such a batch waited until its deadline although databases were free (found by a check with different results on
/// Postgres and on the fake).
pub async fn batch_returns_held_leases_and_grants_the_rest<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
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
        other => panic!("neither one new nor one existing lease: {other:?}"),
    }
    assert_eq!(suite.snapshot().await.leases.iter().filter(|found| found.pool == suite.pool).count(), 2);
    suite.finish(&logins).await;
}

/// A request above `max` fails with the limit; the caller does not wait.
pub async fn request_above_max_is_rejected_at_once<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 2, 0).await;
    let batch = [suite.acquire_request(), suite.acquire_request(), suite.acquire_request()];
    let refused = suite.backend.acquire(&batch, None).await;
    assert!(matches!(refused, Err(Error::CapacityExceeded(_))), "{refused:?}");
    let announce =
        Announce { run: suite.run_id(), pool: suite.pool.clone(), fingerprint: None, workers: 3, aliases: 1 };
    let refused = suite.backend.announce(&announce).await;
    assert!(matches!(refused, Err(Error::CapacityExceeded(_))), "{refused:?}");
    let announce = Announce { fingerprint: Some(fingerprint("unknown")), workers: 1, ..announce };
    let refused = suite.backend.announce(&announce).await;
    assert!(matches!(refused, Err(Error::TemplateNotFound(_))), "{refused:?}");
    suite.finish(&logins).await;
}

/// An announcement raises the number of ready databases until the run ends.
pub async fn announced_run_warms_the_pool<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 4, 0).await;
    let run = suite.run_id();
    let announce = Announce { run: run.clone(), pool: suite.pool.clone(), fingerprint: None, workers: 3, aliases: 1 };
    assert!(expect("announce", suite.backend.announce(&announce).await), "the first time");
    assert!(!expect("announce", suite.backend.announce(&announce).await), "it is known");
    suite.idle().await;
    assert_eq!(suite.ready_names().await, [suite.slot(0), suite.slot(1), suite.slot(2)]);
    let lease = suite.take(suite.acquire_request_of(&run, "gw2")).await;
    assert_eq!(lease.slot, 2);
    suite.idle().await;
    assert_eq!(suite.ready_names().await.len(), 2, "two announced databases are not leased yet");
    expect("end", suite.backend.end_run(&run).await);
    suite.idle().await;
    assert_eq!(suite.ready_names().await, [suite.slot(0)], "the announcement ended with the run");
    suite.finish(&logins).await;
}

/// In a full pool, a ticket evicts an idle database.
pub async fn ticket_for_old_template_evicts_an_idle_database<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let old = suite.ready_pool(2, 2, 0).await;
    let newest = fingerprint("second");
    suite.build(&newest).await;
    assert_eq!(suite.ready_names().await.len(), 2);
    let acquire_request = Acquire { fingerprint: Some(old.clone()), ..suite.acquire_request() };
    let target = suite.must_wait(acquire_request.clone()).await;
    let place = ticket(suite, &target, 1).await;
    suite.idle().await;
    assert!(retry_acquire(suite, &acquire_request, place).await);
    expect("drop the served ticket", suite.backend.drop_ticket(place).await);
    suite.idle().await;
    let lease = suite.take(suite.acquire_request()).await;
    assert_eq!(lease.fingerprint, newest, "the newest template keeps one slot");
    suite.finish(&logins).await;
}
