//! Checks of leases: grants, renewals and ends.

use super::suite::{expect, fingerprint, schema_row};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::lease::{End, LeaseState};
use pgdibs_core::plan::Step;
use pgdibs_core::request::{Acquire, Acquired, Announce};

/// A lease has a clean database, and its credentials can be read again.
pub async fn acquire_returns_clean_database_under_stable_name<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(1, 1, 0).await;
    let template = async || expect("snapshot", suite.backend.take_snapshot().await).templates.remove(0);
    let built = template().await;
    assert!(!built.leased && expect("log", suite.backend.build_log(built.id).await).is_none());
    let lease = suite.take(suite.acquire_request()).await;
    assert!(template().await.leased, "the template counts as used");
    assert_eq!(lease.state, LeaseState::Live);
    assert_eq!((lease.slot, lease.database_name.as_str()), (0, suite.slot(0).as_str()));
    assert_eq!((lease.generation, &lease.fingerprint), (1, &wanted));
    let session = suite.enter_clean_and_write(&lease).await;
    suite.server.disconnect(session).await;
    let found = expect("the lease", suite.backend.lease(lease.id).await);
    assert_eq!(found.credentials, lease.credentials, "the credentials of a live lease can be read again");
    let unknown = suite.backend.lease(suite.lease_id()).await;
    assert!(matches!(unknown, Err(Error::LeaseNotFound(_))), "{unknown:?}");
    suite.finish(&logins).await;
}

/// `gw1` gets slot 1 although slot 0 is ready; a second `gw1` gets another.
pub async fn acquire_prefers_the_slot_of_the_worker<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 2, 0).await;
    let first = suite.take(suite.acquire_request_of(&suite.run_id(), "gw1")).await;
    assert_eq!(first.slot, 1);
    let second = suite.take(suite.acquire_request_of(&suite.run_id(), "gw1")).await;
    assert_eq!(second.slot, 0);
    assert_ne!(first.database, second.database);
    suite.finish(&logins).await;
}

/// A retry never acquires a second lease.
///
/// Regression: a repeated acquire made others skip a free database: Postgres returns the error before it releases the row locks
/// of the failed statement (found by the conformance suite on 17, once in some hundred runs).
pub async fn acquire_with_same_key_returns_same_lease<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 2, 0).await;
    let run = suite.run_id();
    let lease = suite.take(suite.acquire_request_of(&run, "gw0")).await;
    match suite.backend.acquire(&[suite.acquire_request_of(&run, "gw0")], None).await {
        Ok(Acquired::Existing(found)) => {
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].id, &found[0].credentials), (lease.id, &lease.credentials));
        }
        other => panic!("the same key got another lease: {other:?}"),
    }
    let second_alias = Acquire { alias: "second".to_owned(), ..suite.acquire_request_of(&run, "gw0") };
    assert_ne!(suite.take(second_alias).await.id, lease.id, "another alias is another lease");
    suite.release(&lease).await;
    suite.idle().await;
    assert_ne!(
        suite.take(suite.acquire_request_of(&run, "gw0")).await.id,
        lease.id,
        "a key is free again after the release"
    );
    suite.finish(&logins).await;
}

/// One key cannot have leases of two templates.
pub async fn acquire_with_same_key_other_fingerprint_conflicts<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 2, 0).await;
    suite.build(&fingerprint("second")).await;
    let run = suite.run_id();
    let first = Acquire { fingerprint: Some(fingerprint("second")), ..suite.acquire_request_of(&run, "gw0") };
    suite.take(first).await;
    let second = Acquire { fingerprint: Some(fingerprint("first")), ..suite.acquire_request_of(&run, "gw0") };
    let refused = suite.backend.acquire(&[second], None).await;
    assert!(matches!(refused, Err(Error::LeaseConflict(_))), "{refused:?}");
    suite.finish(&logins).await;
}

/// A request without a run has no key.
pub async fn acquire_without_run_grants_a_new_lease<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 2, 0).await;
    let first = suite.take(suite.acquire_request()).await;
    let second = suite.take(suite.acquire_request()).await;
    assert_ne!(first.id, second.id);
    assert_ne!(first.database_name, second.database_name);
    suite.finish(&logins).await;
}

/// An unknown fingerprint is an error; the caller does not wait.
pub async fn acquire_rejects_an_unknown_template<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let refused = suite.backend.acquire(&[suite.acquire_request()], None).await;
    assert!(matches!(refused, Err(Error::TemplateNotFound(_))), "{refused:?}");
    suite.finish(&logins).await;
}

/// A request gets no template but the named one.
pub async fn acquire_matches_fingerprint<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 2, 0).await;
    let newest = fingerprint("second");
    suite.build(&newest).await;
    let unknown = Acquire { fingerprint: Some(fingerprint("unknown")), ..suite.acquire_request() };
    let refused = suite.backend.acquire(&[unknown], None).await;
    assert!(matches!(refused, Err(Error::TemplateNotFound(_))), "{refused:?}");
    let lease = suite.take(suite.acquire_request()).await;
    assert_eq!(lease.fingerprint, newest);
    let session = suite.enter_clean_and_write(&lease).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// A database with a foreign session, now or earlier, is never leased.
///
/// Regression: a tampered database counted as free, so a later ticket was served first (found by the conformance suite).
pub async fn acquire_skips_database_with_foreign_session<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let before = suite.in_state(DatabaseState::Ready).await;
    suite.server.connect_externally(&suite.slot(0)).await;
    let acquire_request = suite.acquire_request();
    suite.must_wait(acquire_request.clone()).await;
    suite.idle().await;
    let lease = suite.take(acquire_request).await;
    assert_ne!(lease.database, before.first().map(|d| d.id), "the tampered database was retired");
    let session = suite.enter_clean_and_write(&lease).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// A database that was dropped externally is not leased before the reconciler detects the drop.
///
/// Regression: such a database was leased until the next snapshot (found with psql).
pub async fn acquire_skips_database_dropped_externally<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    suite.server.drop_externally(&suite.slot(0)).await;
    let acquire_request = suite.acquire_request();
    suite.must_wait(acquire_request.clone()).await;
    suite.idle().await;
    let lease = suite.take(acquire_request).await;
    let session = suite.enter_clean_and_write(&lease).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// After a release, the slot has another database and another login, and the old session and login are closed.
pub async fn released_slot_gets_clean_database_and_new_login<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    for _ in 0..3 {
        let lease = suite.take(suite.acquire_request()).await;
        assert_eq!(lease.database_name, suite.slot(0));
        let mut session = suite.enter_clean_and_write(&lease).await;
        suite.release(&lease).await;
        let ended = expect("the ended lease", suite.backend.lease(lease.id).await);
        assert_eq!((ended.state, ended.credentials), (LeaseState::Released, None));
        suite.idle().await;
        let late = suite.server.write(&mut session, "late").await;
        assert!(late.is_err(), "the holder's session was ended");
        if let Some(credentials) = &lease.credentials {
            suite.assert_dead(credentials, &[&lease.database_name]).await;
        }
        assert_eq!(suite.ready_names().await, [suite.slot(0)]);
    }
    suite.finish(&logins).await;
}

/// A holder cannot connect to other leased databases, spares and templates.
pub async fn login_connects_only_to_its_own_database<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(2, 2, 1).await;
    let first = suite.take(suite.acquire_request()).await;
    let second = suite.take(suite.acquire_request()).await;
    suite.idle().await;
    let Some(credentials) = &first.credentials else { panic!("a live lease has credentials") };
    for name in suite.names_on_the_server().await {
        let entered = suite.server.connect(credentials, &name).await;
        assert_eq!(entered.is_ok(), name == first.database_name, "{} at {name}", credentials.user);
        if let Ok(session) = entered {
            suite.server.disconnect(session).await;
        }
    }
    let session = suite.enter_clean_and_write(&second).await;
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// A second release changes nothing and succeeds; an unknown id is an error.
pub async fn repeated_release_changes_nothing<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 1).await;
    let lease = suite.take(suite.acquire_request()).await;
    suite.release(&lease).await;
    suite.idle().await;
    let next = suite.take(suite.acquire_request()).await;
    let again = expect("again", suite.backend.end_lease(lease.id, End::Revoked, "again").await);
    assert!(!again);
    assert_eq!(expect("the ended lease", suite.backend.lease(lease.id).await).state, LeaseState::Released);
    suite.idle().await;
    let session = suite.enter_clean_and_write(&next).await;
    suite.server.disconnect(session).await;
    let unknown = suite.backend.end_lease(suite.lease_id(), End::Released, "released").await;
    assert!(matches!(unknown, Err(Error::LeaseNotFound(_))), "{unknown:?}");
    suite.finish(&logins).await;
}

/// Each renewal increments the counter and can change the TTL; an ended lease rejects renew, reset and keep.
pub async fn renew_counts_and_rejects_an_ended_lease<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let once = expect("renew", suite.backend.renew(lease.id, None).await);
    let twice = expect("renew", suite.backend.renew(lease.id, Some(5)).await);
    assert_eq!((once.renewals, once.ttl_seconds), (lease.renewals + 1, 60));
    assert_eq!((twice.renewals, twice.ttl_seconds), (lease.renewals + 2, 5));
    suite.release(&lease).await;
    let refusals = [
        suite.backend.renew(lease.id, None).await.err(),
        suite.backend.begin_reset(lease.id, None, None).await.err(),
        suite.backend.keep(lease.id, 60, "too late").await.err(),
    ];
    for refusal in refusals {
        assert!(
            matches!(refusal, Some(Error::LeaseEnded { state: LeaseState::Released, .. })),
            "an ended lease accepted a request: {refusal:?}"
        );
    }
    let unknown = suite.backend.renew(suite.lease_id(), None).await;
    assert!(matches!(unknown, Err(Error::LeaseNotFound(_))), "{unknown:?}");
    suite.finish(&logins).await;
}

/// A step does not expire a lease that was renewed after the plan.
///
/// Regression: a lease renewed between plan and step expired (found by `scenarios`).
pub async fn expire_skips_lease_renewed_after_the_plan<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let expire = |renewals| Step::EndLease {
        lease: lease.id,
        end: End::Expired,
        renewals,
        reason: "not renewed for 60 s".to_owned(),
    };
    let planned = expire(lease.renewals);
    let renewed = expect("renew", suite.backend.renew(lease.id, None).await);
    let results = suite.backend.execute(&[planned]).await;
    assert!(matches!(results[..], [Err(StepError::Stale(_))]), "{results:?}");
    assert_eq!(expect("the lease", suite.backend.lease(lease.id).await).state, LeaseState::Live);
    let results = suite.backend.execute(&[expire(renewed.renewals)]).await;
    assert_eq!(results, [Ok(())]);
    suite.idle().await;
    assert_eq!(expect("the lease", suite.backend.lease(lease.id).await).state, LeaseState::Expired);
    suite.finish(&logins).await;
}

/// A lease whose database was dropped or renamed externally is revoked; the renamed database is left alone.
pub async fn lease_of_database_dropped_externally_is_revoked<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(2, 2, 0).await;
    let dropped = suite.take(suite.acquire_request()).await;
    let renamed = suite.take(suite.acquire_request()).await;
    let theirs = format!("{}_theirs", suite.pool);
    suite.server.drop_externally(&dropped.database_name).await;
    suite.server.rename_externally(&renamed.database_name, &theirs).await;
    suite.idle().await;
    for lease in [&dropped, &renamed] {
        assert_eq!(expect("the ended lease", suite.backend.lease(lease.id).await).state, LeaseState::Revoked);
    }
    assert_eq!(suite.ready_names().await, [suite.slot(0), suite.slot(1)], "the slots are refilled");
    let server = suite.snapshot().await.server;
    assert!(server.values().any(|found| found.name == theirs), "the renamed database is left alone");
    let next = suite.take(Acquire { fingerprint: Some(wanted.clone()), ..suite.acquire_request() }).await;
    let mut session = suite.enter(&next).await;
    assert_eq!(expect("read", suite.server.read(&mut session).await), [schema_row(&wanted)]);
    suite.server.disconnect(session).await;
    suite.server.drop_externally(&theirs).await;
    suite.finish(&logins).await;
}

/// The end of a run releases its leases and no others, and is final.
pub async fn end_run_releases_its_leases<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(3, 3, 0).await;
    let (run, other) = (suite.run_id(), suite.run_id());
    let mine = [
        suite.take(suite.acquire_request_of(&run, "gw0")).await,
        suite.take(suite.acquire_request_of(&run, "gw1")).await,
    ];
    let theirs = suite.take(suite.acquire_request_of(&other, "gw0")).await;
    assert_eq!(expect("end", suite.backend.end_run(&run).await), 2);
    assert_eq!(expect("end again", suite.backend.end_run(&run).await), 0);
    assert_eq!(expect("end of an unknown run", suite.backend.end_run(&suite.run_id()).await), 0);
    suite.idle().await;
    for lease in &mine {
        assert_eq!(expect("the ended lease", suite.backend.lease(lease.id).await).state, LeaseState::Released);
    }
    assert_eq!(expect("the other's", suite.backend.lease(theirs.id).await).state, LeaseState::Live);
    let refused = suite.backend.acquire(&[suite.acquire_request_of(&run, "gw0")], None).await;
    assert!(matches!(refused, Err(Error::RunEnded(_))), "{refused:?}");
    let announce = Announce { run: run.clone(), pool: suite.pool.clone(), fingerprint: None, workers: 1, aliases: 1 };
    let refused = suite.backend.announce(&announce).await;
    assert!(matches!(refused, Err(Error::RunEnded(_))), "{refused:?}");
    suite.finish(&logins).await;
}
