//! Checks of pools: settings, errors, and the complete removal of a dropped pool.

use super::suite::{expect, fingerprint};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{End, LeaseState};
use pgdibs_core::name::{PoolName, RoleName};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::Announce;

/// `put_pool` creates a pool, then changes only the given settings.
pub async fn put_pool_creates_once_then_changes_settings<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let patch = PoolPatch { warm: Some(1), max: Some(3), ..PoolPatch::default() };
    let (pool, made) = expect("make", suite.backend.put_pool(&suite.pool, &patch).await);
    assert!(made);
    assert_eq!((pool.settings.warm, pool.settings.max, pool.settings.spares), (1, 3, 2), "spares keep their default");
    let patch = PoolPatch { spares: Some(0), ..PoolPatch::default() };
    let (pool, made) = expect("change", suite.backend.put_pool(&suite.pool, &patch).await);
    assert!(!made);
    assert_eq!((pool.settings.warm, pool.settings.max, pool.settings.spares), (1, 3, 0));
    let found = suite.snapshot().await.pools.into_iter().find(|found| found.name == suite.pool);
    assert_eq!(found, Some(pool), "the response equals the row");
    suite.finish(&logins).await;
}

/// Every request for a missing pool fails with the pool's name.
pub async fn requests_for_an_unknown_pool_report_its_name<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let (backend, pool) = (&suite.backend, &suite.pool);
    let wanted = fingerprint("first");
    let announce = Announce { run: suite.run_id(), pool: pool.clone(), fingerprint: None, workers: 1, aliases: 1 };
    let refusals = [
        backend.drop_pool(pool, true).await.err(),
        backend.put_template(pool, &wanted, "holder", "token").await.err(),
        backend.drop_template(pool, &wanted).await.err(),
        backend.acquire(&[suite.acquire_request()], None).await.err(),
        backend.announce(&announce).await.err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal, Some(Error::pool_not_found(pool)));
    }
}

/// A patch that breaks a rule changes nothing.
pub async fn put_pool_rejects_settings_out_of_range_unchanged<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(1, 2, 1).await;
    let bad = [
        PoolPatch { warm: Some(3), spares: Some(9), ..PoolPatch::default() },
        PoolPatch { max: Some(0), ..PoolPatch::default() },
        PoolPatch { max: Some(1001), ..PoolPatch::default() },
    ];
    for patch in bad {
        let refused = suite.backend.put_pool(&suite.pool, &patch).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{patch:?} returned {refused:?}");
    }
    let pools = suite.snapshot().await.pools;
    let found = pools.iter().find(|found| found.name == suite.pool).map(|found| &found.settings);
    assert!(found.is_some_and(|found| (found.warm, found.max, found.spares) == (1, 2, 1)), "{found:?}");
    suite.finish(&logins).await;
}

/// `put_pool` rejects a pool if foreign databases have its names, and lists them.
pub async fn put_pool_rejects_names_of_foreign_databases<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let foreign = suite.slot(0);
    suite.server.create_externally(&foreign).await;
    match suite.backend.put_pool(&suite.pool, &PoolPatch::default()).await {
        Err(Error::ForeignDatabases { names, .. }) => assert_eq!(names, [foreign.as_str()]),
        other => panic!("foreign databases were accepted: {other:?}"),
    }
    suite.server.drop_externally(&foreign).await;
    suite.make_pool(0, 1, 0).await;
    suite.finish(&logins).await;
}

/// A lowered `max` retires ready databases in the same moment, the highest slots first, and no lease.
///
/// Regression: until the next plan an acquire was granted a database above the new `max` (issue 17, G).
pub async fn lowered_max_retires_ready_databases_at_once<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(4, 4, 0).await;
    let run = suite.run_id();
    let lease = suite.take(suite.acquire_request_of(&run, "gw3")).await;
    let lower = async |max| {
        let patch = PoolPatch { warm: Some(1), max: Some(max), ..PoolPatch::default() };
        expect("lower max", suite.backend.put_pool(&suite.pool, &patch).await);
        suite.ready_names().await
    };
    assert_eq!(lower(2).await, [suite.slot(0)]);
    assert_eq!(lower(1).await, Vec::<String>::new());
    suite.must_wait(suite.acquire_request()).await;
    suite.idle().await;
    assert_eq!(expect("the lease", suite.backend.lease(lease.id).await).state, LeaseState::Live);
    suite.finish(&logins).await;
}

/// A pool with live leases is only dropped by force, which revokes them.
pub async fn drop_pool_in_use_requires_force<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let session = suite.enter_clean_and_write(&lease).await;
    match suite.backend.drop_pool(&suite.pool, false).await {
        Err(Error::PoolInUse { live: 1, holders, .. }) => assert!(holders.contains("conformance"), "{holders}"),
        other => panic!("the drop of a pool in use was accepted: {other:?}"),
    }
    suite.idle().await;
    suite.server.disconnect(session).await;
    let session = suite.enter(&lease).await;
    expect("drop by force", suite.backend.drop_pool(&suite.pool, true).await);
    suite.idle().await;
    let ended = expect("the ended lease", suite.backend.lease(lease.id).await);
    assert_eq!(ended.state, LeaseState::Revoked);
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// A drop removes ready, leased, spare and kept databases and builds.
pub async fn drop_pool_leaves_no_rows_databases_or_logins<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 3, 1).await;
    let kept = suite.take(suite.acquire_request()).await;
    expect("keep", suite.backend.keep(kept.id, 3600, "inspection").await);
    expect("release", suite.backend.end_lease(kept.id, End::Released, "released").await);
    suite.idle().await;
    assert_eq!(suite.in_state(DatabaseState::Kept).await.len(), 1);
    suite.begin_build(&fingerprint("second"), "builder").await;
    suite.idle().await;
    suite.take(suite.acquire_request()).await;
    expect("drop by force", suite.backend.drop_pool(&suite.pool, true).await);
    let refused = suite.backend.acquire(&[suite.acquire_request()], None).await;
    assert!(refused.is_err(), "a pool that is being dropped granted a lease: {refused:?}");
    suite.finish(&logins).await;
}

/// Each pool has its own owner role. The first build creates it, and the drop of the pool drops it after the last database of the
/// pool. A new pool with the same name gets it again.
pub async fn pool_owner_role_is_separate_and_dropped_with_pool<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let other = expect("a name", PoolName::parse(&format!("{}_2", suite.pool)));
    let (pool, _) = expect("a second pool", suite.backend.put_pool(&other, &PoolPatch::default()).await);
    assert_eq!(pool.settings.owner, RoleName::of_pool(&other));
    let owner = RoleName::of_pool(&suite.pool);
    for _ in 0..2 {
        suite.ready_pool(1, 2, 0).await;
        let pools = suite.snapshot().await.pools;
        let found = pools.iter().find(|found| found.name == suite.pool).map(|found| &found.settings.owner);
        assert_eq!(found, Some(&owner), "each pool has a separate owner role");
        assert!(suite.server.has_owner(&owner).await, "the build creates the owner role");
        let lease = suite.take(suite.acquire_request()).await;
        expect("keep", suite.backend.keep(lease.id, 3600, "inspection").await);
        expect("release", suite.backend.end_lease(lease.id, End::Released, "released").await);
        suite.idle().await;
        assert!(suite.server.has_owner(&owner).await, "the owner role exists while a database is kept");
        suite.finish(&logins).await;
        assert!(!suite.server.has_owner(&owner).await, "the owner role is dropped with the pool");
    }
    expect("drop the second pool", suite.backend.drop_pool(&other, false).await);
    suite.finish(&logins).await;
}

/// A foreign database with the name of a slot keeps it, and the pool uses another slot number.
pub async fn foreign_database_with_slot_name_is_left_alone<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(1, 2, 0).await;
    let foreign = suite.slot(0);
    suite.server.create_externally(&foreign).await;
    suite.build(&fingerprint("first")).await;
    assert_eq!(suite.ready_names().await, [suite.slot(1)]);
    expect("drop", suite.backend.drop_pool(&suite.pool, false).await);
    suite.idle().await;
    assert_eq!(suite.names_on_the_server().await, [foreign.as_str()], "foreign databases remain");
    suite.server.drop_externally(&foreign).await;
    suite.finish(&logins).await;
}
