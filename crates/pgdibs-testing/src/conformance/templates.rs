//! Checks about templates: who builds, what a token opens, and how a template goes.

use super::suite::{expect, fingerprint};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::DatabaseName;
use pgdibs_core::request::TemplatePut;
use pgdibs_core::template::TemplateState;

/// From "I need this template" to a warm pool; the second caller finds it.
pub async fn a_template_is_built_sealed_and_found_again<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(1, 2, 1).await;
    let wanted = fingerprint("first");
    let template = suite.build(&wanted).await;
    assert_eq!(template.state, TemplateState::Ready);
    assert_eq!(template.name, DatabaseName::template(&suite.pool, &wanted));
    assert!(suite.names_on_the_server().await.contains(&template.name.as_str().to_owned()));
    assert_eq!(suite.ready_names().await, [suite.slot(0)]);
    suite.finish(&logins).await;
}

/// Exactly one build per fingerprint; everybody else is told who is at it.
pub async fn a_second_caller_is_told_who_builds<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let wanted = fingerprint("first");
    let mine = suite.begin_build(&wanted, "one").await;
    for _ in 0..2 {
        match suite.backend.put_template(&suite.pool, &wanted, "two", "two").await {
            Ok(TemplatePut::Building(found)) => assert_eq!((found.id, found.holder.as_str()), (mine.id, "one")),
            other => panic!("the second caller should be told who builds, not {other:?}"),
        }
        suite.idle().await;
    }
    let other = suite.begin_build(&fingerprint("second"), "two").await;
    assert_ne!(other.id, mine.id, "another fingerprint is another build");
    suite.finish(&logins).await;
}

/// A build that was given up is dropped, its token is stale, its builder's login is dead, and the next caller builds again.
pub async fn an_abandoned_build_makes_the_next_caller_the_builder<W: Backend, S: ConformanceServer>(
    suite: &Suite<W, S>,
) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let wanted = fingerprint("first");
    let first = suite.begin_build(&wanted, "one").await;
    suite.idle().await;
    let Some(place) = expect("place", suite.backend.build_place(first.id, "one").await) else {
        panic!("the build's database should exist");
    };
    let mut session = expect("login", suite.server.connect(&place.credentials, place.database.as_str()).await);
    expect("half a migration", suite.server.write(&mut session, "half").await);
    expect("abandon", suite.backend.abandon_build(&suite.pool, &wanted, "one", "a migration failed").await);
    suite.idle().await;
    suite.server.disconnect(session).await;
    suite.assert_dead(&place.credentials, &[place.database.as_str()]).await;
    assert!(!suite.names_on_the_server().await.contains(&place.database.as_str().to_owned()), "it is dropped");
    let failed = suite.snapshot().await.templates.into_iter().find(|t| t.id == first.id);
    assert!(
        failed.is_some_and(|t| t.state == TemplateState::Failed && t.detail.as_deref() == Some("a migration failed")),
        "the failure is shown"
    );
    // The next one starts clean: `build` finds nothing but its own mark.
    suite.build(&wanted).await;
    suite.finish(&logins).await;
}

/// A token that was not given for this build, or whose build is over, is refused everywhere.
pub async fn a_stale_token_opens_nothing<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let wanted = fingerprint("first");
    let template = suite.begin_build(&wanted, "one").await;
    suite.idle().await;
    expect("a sign of life", suite.backend.renew_build(&suite.pool, &wanted, "one").await);
    let (backend, pool) = (&suite.backend, &suite.pool);
    for round in ["a token of nobody", "a token of an abandoned build"] {
        let token = if round.ends_with("nobody") { "two" } else { "one" };
        // Its own builder may be told there why the build failed.
        let place = backend.build_place(template.id, token).await;
        assert!(matches!(place, Err(Error::BuildTokenStale(_) | Error::TemplateFailed(_))), "{round}: {place:?}");
        let refusals = [
            backend.renew_build(pool, &wanted, token).await.err(),
            backend.request_seal(pool, &wanted, token).await.err(),
            backend.abandon_build(pool, &wanted, token, "detail").await.err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Some(Error::BuildTokenStale(_))), "{round}: {refusal:?}");
        }
        if token == "two" {
            expect("abandon", backend.abandon_build(pool, &wanted, "one", "gave up").await);
        }
    }
    suite.finish(&logins).await;
}

/// The seal repeated with the same token is answered the same; afterwards there is nothing to renew or give up.
pub async fn a_sealed_template_is_sealed_once<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(0, 1, 0).await;
    let (backend, pool) = (&suite.backend, &suite.pool);
    let again = expect("seal again", backend.request_seal(pool, &wanted, "builder").await);
    assert_eq!(again.state, TemplateState::Ready);
    let refused = [
        backend.renew_build(pool, &wanted, "builder").await.err(),
        backend.abandon_build(pool, &wanted, "builder", "too late").await.err(),
    ];
    for refusal in refused {
        assert!(
            matches!(refusal, Some(Error::TemplateNotBuilding(_) | Error::BuildTokenStale(_))),
            "a template that is ready is not being built: {refusal:?}"
        );
    }
    suite.idle().await;
    assert!(
        matches!(backend.put_template(pool, &wanted, "r", "r").await, Ok(TemplatePut::Ready(_))),
        "nothing of this took it away"
    );
    suite.finish(&logins).await;
}

/// Live leases protect their template.
pub async fn a_template_in_use_is_not_dropped<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    match suite.backend.drop_template(&suite.pool, &wanted).await {
        Err(Error::TemplateInUse { live: 1, holders }) => assert!(holders.contains("conformance"), "{holders}"),
        other => panic!("a template in use should be refused, not {other:?}"),
    }
    suite.release(&lease).await;
    expect("drop", suite.backend.drop_template(&suite.pool, &wanted).await);
    suite.idle().await;
    assert_eq!(suite.names_on_the_server().await, Vec::<String>::new());
    let missing = suite.backend.drop_template(&suite.pool, &wanted).await;
    assert!(matches!(missing, Err(Error::TemplateNotFound(_))), "{missing:?}");
    suite.finish(&logins).await;
}

/// The same fingerprint can come back at once, also while a kept database of the old template is still looked at.
pub async fn a_dropped_template_can_be_built_again<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let kept = expect("keep", suite.backend.keep(lease.id, 3600, "to look at").await);
    suite.release(&lease).await;
    suite.idle().await;
    expect("drop", suite.backend.drop_template(&suite.pool, &wanted).await);
    suite.build(&wanted).await;
    let lease = suite.take(suite.acquire_request()).await;
    let session = suite.enter_clean_and_write(&lease).await;
    suite.server.disconnect(session).await;
    let look = expect("the kept login", suite.server.connect(&kept.credentials, kept.name.as_str()).await);
    suite.server.disconnect(look).await;
    suite.finish(&logins).await;
}

/// A template whose database somebody dropped is retired, and can be built again.
pub async fn a_template_that_somebody_dropped_is_retired<W: Backend, S: ConformanceServer>(suite: &Suite<W, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let wanted = fingerprint("first");
    let template = suite.build(&wanted).await;
    suite.server.drop_by_hand(template.name.as_str()).await;
    suite.idle().await;
    let again = suite.build(&wanted).await;
    assert_ne!(again.id, template.id);
    suite.finish(&logins).await;
}
