//! Checks of templates: builders, tokens, seals and drops.

use super::suite::{expect, fingerprint};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::DatabaseName;
use pgdibs_core::request::TemplatePut;
use pgdibs_core::template::TemplateState;

/// A build from the first `PUT` to the ready databases; the second `PUT` finds the template.
pub async fn template_is_built_sealed_and_found_again<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
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

/// A fingerprint has one build at a time; other callers get its holder.
pub async fn put_template_reports_the_current_builder<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let wanted = fingerprint("first");
    let mine = suite.begin_build(&wanted, "one").await;
    for _ in 0..2 {
        match suite.backend.put_template(&suite.pool, &wanted, "two", "two").await {
            Ok(TemplatePut::Building(found)) => assert_eq!((found.id, found.holder.as_str()), (mine.id, "one")),
            other => panic!("the second caller does not get the builder: {other:?}"),
        }
        suite.idle().await;
    }
    let other = suite.begin_build(&fingerprint("second"), "two").await;
    assert_ne!(other.id, mine.id, "another fingerprint is another build");
    suite.finish(&logins).await;
}

/// An abandoned build is dropped with its login, its token is stale, and the next caller becomes the builder.
pub async fn abandoned_build_lets_the_next_caller_build<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let wanted = fingerprint("first");
    let first = suite.begin_build(&wanted, "one").await;
    suite.idle().await;
    let Some(place) = expect("place", suite.backend.build_place(first.id, "one").await) else {
        panic!("the build's database does not exist");
    };
    let mut session = expect("login", suite.server.connect(&place.credentials, place.database.as_str()).await);
    expect("half a migration", suite.server.write(&mut session, "half").await);
    expect("abandon", suite.backend.abandon_build(&suite.pool, &wanted, "one", "a migration failed").await);
    suite.idle().await;
    suite.server.disconnect(session).await;
    suite.assert_dead(&place.credentials, &[place.database.as_str()]).await;
    assert!(
        !suite.names_on_the_server().await.contains(&place.database.as_str().to_owned()),
        "the build's database is dropped"
    );
    let failed = suite.snapshot().await.templates.into_iter().find(|t| t.id == first.id);
    assert!(
        failed.is_some_and(|t| t.state == TemplateState::Failed && t.detail.as_deref() == Some("a migration failed")),
        "the row shows the failure"
    );
    // `build` checks that the next build starts with an empty database.
    suite.build(&wanted).await;
    suite.finish(&logins).await;
}

/// Every request rejects the token of another or of an ended build.
pub async fn stale_build_token_is_rejected<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let wanted = fingerprint("first");
    let template = suite.begin_build(&wanted, "one").await;
    suite.idle().await;
    expect("renew the build", suite.backend.renew_build(&suite.pool, &wanted, "one").await);
    let (backend, pool) = (&suite.backend, &suite.pool);
    for round in ["an unknown token", "the token of an abandoned build"] {
        let token = if round.starts_with("an unknown") { "two" } else { "one" };
        // The builder itself may get the reason of the failure instead.
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
            expect("abandon", backend.abandon_build(pool, &wanted, "one", "abandoned").await);
        }
    }
    suite.finish(&logins).await;
}

/// A repeated seal with the same token has the same result; afterwards renew and abandon are errors.
pub async fn repeated_seal_returns_the_ready_template<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
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
            "a ready template accepted a request of its build: {refusal:?}"
        );
    }
    suite.idle().await;
    assert!(
        matches!(backend.put_template(pool, &wanted, "r", "r").await, Ok(TemplatePut::Ready(_))),
        "the template is still ready"
    );
    suite.finish(&logins).await;
}

/// A template with live leases cannot be dropped.
pub async fn drop_template_in_use_is_rejected<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    match suite.backend.drop_template(&suite.pool, &wanted).await {
        Err(Error::TemplateInUse { live: 1, holders }) => assert!(holders.contains("conformance"), "{holders}"),
        other => panic!("the drop of a template in use was accepted: {other:?}"),
    }
    suite.release(&lease).await;
    expect("drop", suite.backend.drop_template(&suite.pool, &wanted).await);
    suite.idle().await;
    assert_eq!(suite.names_on_the_server().await, Vec::<String>::new());
    let missing = suite.backend.drop_template(&suite.pool, &wanted).await;
    assert!(matches!(missing, Err(Error::TemplateNotFound(_))), "{missing:?}");
    suite.finish(&logins).await;
}

/// The same fingerprint can be built again at once, also while a kept database of the old template exists.
pub async fn dropped_template_can_be_built_again<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let wanted = suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let kept = expect("keep", suite.backend.keep(lease.id, 3600, "inspection").await);
    suite.release(&lease).await;
    suite.idle().await;
    expect("drop", suite.backend.drop_template(&suite.pool, &wanted).await);
    suite.build(&wanted).await;
    let lease = suite.take(suite.acquire_request()).await;
    let session = suite.enter_clean_and_write(&lease).await;
    suite.server.disconnect(session).await;
    let session = expect("the kept login", suite.server.connect(&kept.credentials, kept.name.as_str()).await);
    suite.server.disconnect(session).await;
    suite.finish(&logins).await;
}

/// A template whose database was dropped externally retires and can be built again.
pub async fn template_dropped_externally_is_retired<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let wanted = fingerprint("first");
    let template = suite.build(&wanted).await;
    suite.server.drop_externally(template.name.as_str()).await;
    suite.idle().await;
    let again = suite.build(&wanted).await;
    assert_ne!(again.id, template.id);
    suite.finish(&logins).await;
}
