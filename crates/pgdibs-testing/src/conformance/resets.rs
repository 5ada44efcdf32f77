//! Checks about resets: the same id, URL and login, a fresh database.

use super::suite::{expect, schema_mark};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::request::{ResetBegun, TicketKind};

async fn reserve<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>, id: LeaseId, leave: Option<u32>) -> u32 {
    match suite.backend.begin_reset(id, leave, None).await {
        Ok(ResetBegun::Reserved { generation }) => generation,
        other => panic!("a spare should be reserved, not {other:?}"),
    }
}

/// Contents, generation and sessions change; id, name and login do not.
pub async fn a_reset_brings_a_clean_database_under_the_same_name_and_login<W: Backend, S: ConformanceServer>(
    suite: &Suite<W, S>,
) {
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
        assert_ne!(found.database, lease.database, "another database stands under the name");
        assert!(found.renewals > lease.renewals, "a reset counts as a renewal");
        lease = found;
    }
    suite.finish(&logins).await;
}

/// A retry that names the generation to leave behind does not reset twice.
pub async fn a_reset_named_by_its_generation_happens_once<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    assert_eq!(reserve(suite, lease.id, Some(1)).await, 2);
    assert_eq!(reserve(suite, lease.id, Some(1)).await, 2, "the same reset, still under way");
    suite.idle().await;
    match suite.backend.begin_reset(lease.id, Some(1), None).await {
        Ok(ResetBegun::Already(found)) => assert_eq!((found.id, found.generation), (lease.id, 2)),
        other => panic!("generation 1 is already behind: {other:?}"),
    }
    suite.idle().await;
    assert_eq!(expect("the lease", suite.backend.lease(lease.id).await).generation, 2);
    suite.finish(&logins).await;
}

/// No spare: nothing changes but that a clone is ordered.
pub async fn a_reset_without_a_spare_waits_and_leaves_the_database_alone<W: Backend, S: ConformanceServer>(
    suite: &Suite<W, S>,
) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let mut session = suite.enter_clean_and_write(&lease).await;
    let wanted = match suite.backend.begin_reset(lease.id, None, None).await {
        Ok(ResetBegun::Wait(wanted)) => wanted,
        other => panic!("there is no spare to reset with: {other:?}"),
    };
    expect("the session goes on", suite.server.write(&mut session, "more dirt").await);
    let place = expect("a ticket", suite.backend.take_ticket(&wanted, 1, TicketKind::Reset).await);
    suite.idle().await;
    expect("the session still goes on", suite.server.write(&mut session, "still more").await);
    match suite.backend.begin_reset(lease.id, None, Some(place)).await {
        Ok(ResetBegun::Reserved { generation: 2 }) => {}
        other => panic!("a spare was cloned for the waiting reset: {other:?}"),
    }
    expect("the ticket, served", suite.backend.drop_ticket(place).await);
    suite.idle().await;
    let found = expect("the lease", suite.backend.lease(lease.id).await);
    let session = suite.enter_clean_and_write(&found).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// The lease after the reset whose reservation was given up has reserved another, as the service does.
async fn after_another_reservation<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>, lease: LeaseId) -> Lease {
    let seen = expect("the lease", suite.backend.lease(lease).await);
    assert_eq!((seen.generation, seen.reset_to), (1, None), "the reservation is given up");
    reserve(suite, lease, None).await;
    suite.idle().await;
    expect("the lease", suite.backend.lease(lease).await)
}

/// Spares are closed, but a superuser can open one and look in, before or after a reset has reserved it.
///
/// Regression: a reset used a spare that an external session had written into (found with psql).
pub async fn a_spare_that_somebody_looked_into_does_not_come_in<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    let entered = suite.in_state(DatabaseState::Spare).await.remove(0);
    suite.server.look_into(entered.name.as_str()).await;
    match suite.backend.begin_reset(lease.id, None, None).await {
        Ok(ResetBegun::Wait(_)) => {}
        other => panic!("the only spare was looked into: {other:?}"),
    }
    suite.idle().await;
    reserve(suite, lease.id, None).await;
    let reserved = suite.in_state(DatabaseState::Spare).await.remove(0);
    suite.server.look_into(reserved.name.as_str()).await;
    suite.idle().await;
    let seen = after_another_reservation(suite, lease.id).await;
    assert!(![Some(entered.id), Some(reserved.id)].contains(&seen.database), "{seen:?}");
    let session = suite.enter_clean_and_write(&seen).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// The reservation of a spare that is not there any more ends with its row, or the reset would wait for it for as long as it may.
///
/// Regression: a retirement could take a spare that a reset had just reserved (found by conformance suite and a second
/// reading).
///
/// Regression: a reserved spare that was dropped externally could not be deleted from the catalog (a foreign key), and the reset
/// waited until it was given up (found by the loop of cut lines).
pub async fn a_reserved_spare_that_somebody_dropped_frees_its_reset<W: Backend, S: ConformanceServer>(
    suite: &Suite<W, S>,
) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    reserve(suite, lease.id, None).await;
    let reserved = suite.in_state(DatabaseState::Spare).await.remove(0);
    suite.server.drop_by_hand(reserved.name.as_str()).await;
    suite.idle().await;
    let seen = after_another_reservation(suite, lease.id).await;
    assert_eq!(seen.generation, 2);
    let session = suite.enter_clean_and_write(&seen).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// A holder that lets go in the middle of a reset blocks nobody.
pub async fn a_release_during_a_reset_frees_the_spare<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
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
    assert_eq!(next.database, Some(spare[0].id), "the spare that was reserved is used for the slot");
    let session = suite.enter_clean_and_write(&next).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// After a reset the lease's login carries another number than its database; both go with the release.
pub async fn a_lease_that_was_reset_leaves_no_login_behind<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    reserve(suite, lease.id, None).await;
    suite.idle().await;
    let mut session = suite.enter(&lease).await;
    assert_eq!(expect("read", suite.server.read(&mut session).await), [schema_mark(&wanted)]);
    suite.server.disconnect(session).await;
    suite.release(&lease).await;
    suite.idle().await;
    let Some(credentials) = &lease.credentials else { panic!("a live lease has credentials") };
    suite.assert_dead(credentials, &[&lease.database_name]).await;
    let left = suite.server.logins().await;
    assert!(!left.contains(&credentials.user), "{} is dropped with the database it led to", credentials.user);
    suite.finish(&logins).await;
}
