//! Checks of kept databases: they outlive their lease, with another name and another login.

use std::time::Duration;

use super::suite::{expect, schema_row};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::Error;
use pgdibs_core::lease::Lease;
use pgdibs_core::request::{Kept, ResetBegun};

/// Checks that the kept database has the holder's data, and that its login opens no other database.
async fn assert_kept_contents<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>, kept: &Kept, lease: &Lease) {
    let mut session = expect("the kept login", suite.server.connect(&kept.credentials, kept.name.as_str()).await);
    let found = expect("read", suite.server.read(&mut session).await);
    assert_eq!(found, [schema_row(&lease.fingerprint), format!("dirt of {}", lease.id)]);
    suite.server.disconnect(session).await;
    let elsewhere = suite.server.connect(&kept.credentials, &lease.database_name).await;
    assert!(elsewhere.is_err(), "the kept login opens the kept database only");
}

/// A kept database leaves the slot with its data; the slot gets another database.
pub async fn kept_database_survives_release<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let session = suite.enter_clean_and_write(&lease).await;
    let kept = expect("keep", suite.backend.keep(lease.id, 3600, "test_x failed").await);
    suite.idle().await;
    let again = expect("keep again", suite.backend.keep(lease.id, 7200, "test_y failed").await);
    assert_eq!((again.database, &again.name), (kept.database, &kept.name), "one database is kept once");
    assert_eq!(again.credentials, kept.credentials);
    suite.release(&lease).await;
    suite.idle().await;
    suite.server.disconnect(session).await;
    assert_kept_contents(suite, &again, &lease).await;
    let rows = suite.in_state(DatabaseState::Kept).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].id, &rows[0].name, rows[0].slot), (kept.database, &kept.name, None));
    // The reconciler takes no snapshot before.
    let snapshot = suite.snapshot().await;
    let until = rows[0].keep_until.map_or(0, |until| until.0 - snapshot.taken_at.0);
    let until = Duration::from_micros(u64::try_from(until).unwrap_or(0));
    let next = snapshot.next_change.unwrap_or_default();
    assert!(next >= until && next < until + Duration::from_millis(2), "{next:?} of {until:?}");
    if let Some(credentials) = &lease.credentials {
        suite.assert_dead(credentials, &[kept.name.as_str(), &lease.database_name]).await;
    }
    let next = suite.take(suite.acquire_request()).await;
    assert_eq!(next.database_name, lease.database_name, "the slot has a new database");
    let session = suite.enter_clean_and_write(&next).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// After a reset, the lease has another database, and its login cannot connect to the kept one.
pub async fn kept_database_survives_reset<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    let session = suite.enter_clean_and_write(&lease).await;
    let kept = expect("keep", suite.backend.keep(lease.id, 3600, "test_x failed").await);
    suite.idle().await;
    match suite.backend.begin_reset(lease.id, Some(1), None).await {
        Ok(ResetBegun::Reserved { generation: 2 }) => {}
        other => panic!("no spare was reserved: {other:?}"),
    }
    suite.idle().await;
    suite.server.disconnect(session).await;
    assert_kept_contents(suite, &kept, &lease).await;
    let Some(credentials) = &lease.credentials else { panic!("a live lease has credentials") };
    assert!(
        suite.server.connect(credentials, kept.name.as_str()).await.is_err(),
        "the holder cannot connect to the kept database"
    );
    let found = expect("the lease", suite.backend.lease(lease.id).await);
    let session = suite.enter_clean_and_write(&found).await;
    suite.server.disconnect(session).await;
    suite.release(&found).await;
    suite.idle().await;
    assert_eq!(suite.in_state(DatabaseState::Kept).await.len(), 1, "the second database was not kept");
    suite.finish(&logins).await;
}

/// The early end of a keep drops the database and its login.
pub async fn drop_kept_deletes_database_and_login<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let kept = expect("keep", suite.backend.keep(lease.id, 3600, "test_x failed").await);
    suite.release(&lease).await;
    suite.idle().await;
    let name = kept.name.as_str();
    expect("end the keep", suite.backend.drop_kept(name).await);
    suite.idle().await;
    assert!(!suite.names_on_the_server().await.contains(&name.to_owned()));
    assert!(!suite.server.logins().await.contains(&kept.credentials.user));
    for unknown in [name, "postgres", &suite.slot(0)] {
        let refused = suite.backend.drop_kept(unknown).await;
        assert!(matches!(refused, Err(Error::DatabaseNotFound(_))), "{unknown}: {refused:?}");
    }
    suite.idle().await;
    assert_eq!(suite.ready_names().await, [suite.slot(0)]);
    suite.finish(&logins).await;
}

/// A keep of an unknown or ended lease is an error.
pub async fn keep_rejects_an_ended_or_unknown_lease<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let unknown = suite.backend.keep(suite.lease_id(), 60, "why").await;
    assert!(matches!(unknown, Err(Error::LeaseNotFound(_))), "{unknown:?}");
    let lease = suite.take(suite.acquire_request()).await;
    suite.release(&lease).await;
    let over = suite.backend.keep(lease.id, 60, "too late").await;
    assert!(matches!(over, Err(Error::LeaseEnded { .. })), "{over:?}");
    suite.idle().await;
    assert_eq!(suite.in_state(DatabaseState::Kept).await, []);
    suite.finish(&logins).await;
}
