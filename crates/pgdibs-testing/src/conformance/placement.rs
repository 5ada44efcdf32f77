//! Checks of moves: ready databases stand in the lowest slots at rest and for an announced run.

use super::suite::{expect, fingerprint};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::StepError;
use pgdibs_core::plan::Step;
use pgdibs_core::request::{Acquire, Announce};

/// Two leases at once leave the next ready databases in slots 2 and 3. When they have ended, slots 0 and 1 are filled from there.
pub async fn ready_databases_move_to_lowest_slots_after_a_burst<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 6, 0).await;
    let (first, second) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
    suite.idle().await;
    assert_eq!(suite.ready_names().await, [suite.slot(2), suite.slot(3)], "beside leases nothing moves");
    suite.release(&first).await;
    suite.release(&second).await;
    suite.idle().await;
    assert_eq!(suite.ready_names().await, [suite.slot(0), suite.slot(1)]);
    let run = suite.run_id();
    for worker in ["gw1", "gw0"] {
        let lease = suite.take(suite.acquire_request_of(&run, worker)).await;
        assert_eq!(Some(lease.slot), worker.strip_prefix("gw").and_then(|number| number.parse().ok()));
        let session = suite.enter_clean_and_write(&lease).await;
        suite.server.disconnect(session).await;
    }
    suite.finish(&logins).await;
}

/// The lowest slots hold databases of the newest template. A run that announces an older one gets those slots.
pub async fn announced_run_gets_slots_of_another_template<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let old = suite.ready_pool(2, 6, 0).await;
    suite.build(&fingerprint("second")).await;
    assert_eq!(suite.ready_names().await, [suite.slot(0), suite.slot(1)]);
    let run = suite.run_id();
    let announce =
        Announce { run: run.clone(), pool: suite.pool.clone(), fingerprint: Some(old.clone()), workers: 2, aliases: 1 };
    expect("announce", suite.backend.announce(&announce).await);
    suite.idle().await;
    assert_eq!(suite.ready_names().await.len(), 4, "both templates are warm");
    for (worker, slot) in [("gw0", 0), ("gw1", 1)] {
        let request = Acquire { fingerprint: Some(old.clone()), ..suite.acquire_request_of(&run, worker) };
        let lease = suite.take(request).await;
        assert_eq!(lease.slot, slot);
        assert_eq!(lease.fingerprint, old);
        let session = suite.enter_clean_and_write(&lease).await;
        suite.server.disconnect(session).await;
    }
    let lease = suite.take(suite.acquire_request()).await;
    let session = suite.enter_clean_and_write(&lease).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// A database that was leased after the plan keeps its slot, and so does one that would make room for another.
pub async fn move_of_leased_database_is_stale<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(3, 6, 0).await;
    let ready = suite.in_state(DatabaseState::Ready).await;
    let in_slot = |slot| ready.iter().find(|d| d.slot == Some(slot)).map(|d| d.id);
    let (Some(first), Some(third)) = (in_slot(0), in_slot(2)) else { panic!("{ready:?}") };
    let lease = suite.take(suite.acquire_request()).await;
    assert_eq!(lease.database, Some(first));
    for step in [
        Step::Move { database: third, slot: 0, displaced: Some(first) },
        Step::Move { database: third, slot: 0, displaced: None },
        Step::Move { database: first, slot: 0, displaced: None },
    ] {
        let result = suite.backend.execute(std::slice::from_ref(&step)).await;
        assert!(matches!(result.as_slice(), [Err(StepError::Stale(_))]), "{step:?}: {result:?}");
    }
    let session = suite.enter_clean_and_write(&lease).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}
