//! Checks of resets: the same id, URL and login, another database.

use super::suite::{expect, schema_row};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::request::{ResetBegun, TicketKind};

async fn reserve<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>, id: LeaseId, leave: Option<u32>) -> u32 {
    match suite.backend.begin_reset(id, leave, None).await {
        Ok(ResetBegun::Reserved { generation }) => generation,
        other => panic!("no spare was reserved: {other:?}"),
    }
}

/// A reset replaces contents, generation and sessions, but not id, name and login.
pub async fn reset_swaps_database_and_keeps_name_and_login<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let mut lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    for generation in 2..5 {
        let mut session = suite.enter_clean_and_write(&lease).await;
        assert_eq!(reserve(suite, lease.id, None).await, generation);
        suite.idle().await;
        let late = suite.server.write(&mut session, "late").await;
        assert!(late.is_err(), "every session on the old database is ended");
        let found = expect("the lease", suite.backend.lease(lease.id).await);
        assert_eq!(found.generation, generation);
        assert_eq!((found.id, &found.database_name, found.slot), (lease.id, &lease.database_name, lease.slot));
        assert_eq!(found.credentials, lease.credentials);
        assert_ne!(found.database, lease.database, "the name belongs to another database");
        assert!(found.renewals > lease.renewals, "a reset counts as a renewal");
        lease = found;
    }
    suite.finish(&logins).await;
}

/// A retry with the same generation does not reset again.
pub async fn reset_of_a_generation_happens_once<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    assert_eq!(reserve(suite, lease.id, Some(1)).await, 2);
    assert_eq!(reserve(suite, lease.id, Some(1)).await, 2, "the same reset is in progress");
    suite.idle().await;
    match suite.backend.begin_reset(lease.id, Some(1), None).await {
        Ok(ResetBegun::Already(found)) => assert_eq!((found.id, found.generation), (lease.id, 2)),
        other => panic!("generation 1 was reset again: {other:?}"),
    }
    suite.idle().await;
    assert_eq!(expect("the lease", suite.backend.lease(lease.id).await).generation, 2);
    suite.finish(&logins).await;
}

/// Without a spare, the reset waits for a clone, and the session on the old database continues.
pub async fn reset_without_spare_waits_with_database_unchanged<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let mut session = suite.enter_clean_and_write(&lease).await;
    let target = match suite.backend.begin_reset(lease.id, None, None).await {
        Ok(ResetBegun::Wait(target)) => target,
        other => panic!("the reset does not wait for a spare: {other:?}"),
    };
    expect("the session continues", suite.server.write(&mut session, "more dirt").await);
    let place = expect(
        "a ticket",
        suite.backend.take_ticket(&target, 1, TicketKind::Reset, &pgdibs_core::request::TicketHolder::default()).await,
    );
    suite.idle().await;
    expect("the session still continues", suite.server.write(&mut session, "still more").await);
    match suite.backend.begin_reset(lease.id, None, Some(place)).await {
        Ok(ResetBegun::Reserved { generation: 2 }) => {}
        other => panic!("the waiting reset got no spare: {other:?}"),
    }
    expect("drop the served ticket", suite.backend.drop_ticket(place).await);
    suite.idle().await;
    let found = expect("the lease", suite.backend.lease(lease.id).await);
    let session = suite.enter_clean_and_write(&found).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// Reserves another spare after the first reservation was freed, as the service does, and returns the lease after the reset.
async fn after_another_reservation<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>, lease: LeaseId) -> Lease {
    let seen = expect("the lease", suite.backend.lease(lease).await);
    assert_eq!((seen.generation, seen.reset_to), (1, None), "the reservation is freed");
    reserve(suite, lease, None).await;
    suite.idle().await;
    expect("the lease", suite.backend.lease(lease).await)
}

/// A superuser can open a spare and connect to it, before or after a reset has reserved it.
///
/// Regression: a reset used a spare that an external session had written into (found with psql).
pub async fn reset_skips_spare_with_foreign_session<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    let entered = suite.in_state(DatabaseState::Spare).await.remove(0);
    suite.server.connect_externally(entered.name.as_str()).await;
    match suite.backend.begin_reset(lease.id, None, None).await {
        Ok(ResetBegun::Wait(_)) => {}
        other => panic!("the reset used a spare with a foreign session: {other:?}"),
    }
    suite.idle().await;
    reserve(suite, lease.id, None).await;
    let reserved = suite.in_state(DatabaseState::Spare).await.remove(0);
    suite.server.connect_externally(reserved.name.as_str()).await;
    suite.idle().await;
    let seen = after_another_reservation(suite, lease.id).await;
    assert!(![Some(entered.id), Some(reserved.id)].contains(&seen.database), "{seen:?}");
    let session = suite.enter_clean_and_write(&seen).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// The deletion of a reserved spare's row frees the reservation; the reset would otherwise wait until its timeout.
///
/// Regression: a retirement could take a spare that a reset had just reserved (found by the conformance suite).
///
/// Regression: a foreign key prevented the deletion of a reserved spare's row after an external drop, and the reset timed out
/// (found by the fault tests that cut connections).
pub async fn reset_reserves_again_after_spare_is_dropped_externally<B: Backend, S: ConformanceServer>(
    suite: &Suite<B, S>,
) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    reserve(suite, lease.id, None).await;
    let reserved = suite.in_state(DatabaseState::Spare).await.remove(0);
    suite.server.drop_externally(reserved.name.as_str()).await;
    suite.idle().await;
    let seen = after_another_reservation(suite, lease.id).await;
    assert_eq!(seen.generation, 2);
    let session = suite.enter_clean_and_write(&seen).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// A release during a reset frees the reserved spare.
pub async fn release_during_reset_frees_the_spare<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    let spare = suite.in_state(DatabaseState::Spare).await;
    assert_eq!(spare.len(), 1);
    reserve(suite, lease.id, None).await;
    suite.release(&lease).await;
    suite.idle().await;
    assert_eq!(expect("the lease", suite.backend.lease(lease.id).await).generation, 1, "no reset took place");
    let next = suite.take(suite.acquire_request()).await;
    assert_eq!(next.database, Some(spare[0].id), "the reserved spare enters the slot");
    let session = suite.enter_clean_and_write(&next).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// After a reset the numbers of login and database differ; the release drops the logins of both.
pub async fn release_after_reset_drops_both_logins<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    reserve(suite, lease.id, None).await;
    suite.idle().await;
    let mut session = suite.enter(&lease).await;
    assert_eq!(expect("read", suite.server.read(&mut session).await), [schema_row(&wanted)]);
    suite.server.disconnect(session).await;
    suite.release(&lease).await;
    suite.idle().await;
    let Some(credentials) = &lease.credentials else { panic!("a live lease has credentials") };
    suite.assert_dead(credentials, &[&lease.database_name]).await;
    let left = suite.server.logins().await;
    assert!(!left.contains(&credentials.user), "{} is dropped with its last database", credentials.user);
    suite.finish(&logins).await;
}
