//! Checks of the template that a request without fingerprint gets.

use super::suite::{expect, fingerprint};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::Fingerprint;
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::{Acquire, Announce, TicketKind};

async fn choose<B: Backend, S: ConformanceServer>(
    suite: &Suite<B, S>,
    run: Option<&str>,
) -> Result<Fingerprint, Error> {
    suite.backend.choose_template(&suite.pool, run).await
}

/// Makes a ready template current, as a client does that names it.
async fn put<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>, named: &Fingerprint) {
    expect("put", suite.backend.put_template(&suite.pool, named, "reader", "reader").await);
}

/// The same request without a template.
fn unnamed(acquire_request: Acquire) -> Acquire {
    Acquire { fingerprint: None, fingerprint_named: false, ..acquire_request }
}

/// The last seal and the last `PUT` decide, a build and a lease do not. Without the current template the newest ready one counts.
pub async fn choice_follows_last_put_or_seal<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    assert!(matches!(choose(suite, None).await, Err(Error::PoolNotFound { .. })));
    suite.make_pool(1, 4, 0).await;
    assert!(matches!(choose(suite, None).await, Err(Error::TemplateNotFound(_))));
    let (first, second) = (fingerprint("first"), fingerprint("second"));
    let zeroth = fingerprint("zeroth");
    suite.begin_build(&zeroth, "other").await;
    assert_eq!(choose(suite, None).await, Ok(zeroth.clone()), "the only one, though it is being built");
    expect("abandon", suite.backend.abandon_build(&suite.pool, &zeroth, "other", "changed").await);
    suite.build(&first).await;
    suite.build(&second).await;
    assert_eq!(choose(suite, None).await, Ok(second.clone()), "the one sealed last");
    put(suite, &first).await;
    assert_eq!(choose(suite, None).await, Ok(first.clone()), "the one named last");
    suite.idle().await;
    let lease = suite.take(Acquire { fingerprint: Some(first.clone()), ..suite.acquire_request() }).await;
    suite.release(&lease).await;
    suite.begin_build(&fingerprint("third"), "third").await;
    suite.idle().await;
    let warm = suite.in_state(pgdibs_core::database::DatabaseState::Ready).await;
    assert_eq!(warm.iter().map(|d| d.template).collect::<Vec<_>>(), [lease.template], "only the current one is warm");
    assert_eq!(choose(suite, None).await, Ok(first.clone()), "a build that is not sealed changes nothing");
    expect("drop", suite.backend.drop_template(&suite.pool, &first).await);
    assert_eq!(choose(suite, None).await, Ok(second), "the newest ready one");
    suite.finish(&logins).await;
}

/// A run gets the template of its announcement, else of its last lease, whatever is current or in use beside it.
pub async fn choice_keeps_the_template_of_the_run<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let first = suite.ready_pool(1, 4, 0).await;
    let (leasing, announcing) = (suite.run_id(), suite.run_id());
    let lease = suite.take(suite.acquire_request_of(&leasing, "gw0")).await;
    let (pool, fingerprint_of) = (suite.pool.clone(), Some(first.clone()));
    let announce = Announce { run: announcing.clone(), pool, fingerprint: fingerprint_of, workers: 1, aliases: 1 };
    expect("announce", suite.backend.announce(&announce).await);
    let second = fingerprint("second");
    suite.build(&second).await;
    suite.release(&lease).await;
    assert_eq!(choose(suite, Some(&leasing)).await, Ok(first.clone()));
    assert_eq!(choose(suite, Some(&announcing)).await, Ok(first.clone()));
    // The statement that acquires chooses the same.
    suite.idle().await;
    let of_run = suite.take(unnamed(suite.acquire_request_of(&leasing, "gw1"))).await;
    assert_eq!(of_run.fingerprint, first);
    suite.release(&of_run).await;
    expect("end", suite.backend.end_run(&announcing).await);
    assert_eq!(choose(suite, Some(&suite.run_id())).await, Ok(second.clone()));
    assert_eq!(suite.take(unnamed(suite.acquire_request())).await.fingerprint, second);
    suite.finish(&logins).await;
}

/// A live lease, a waiter or an announcement of another template makes the choice ambiguous, except where a daemon builds the templates.
pub async fn choice_is_ambiguous_beside_another_template_in_use<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    let first = suite.ready_pool(1, 1, 0).await;
    let lease = suite.take(suite.acquire_request()).await;
    let second = fingerprint("second");
    suite.build(&second).await;
    suite.idle().await;
    let is_ambiguous = async |why: &str| {
        let run = suite.run_id();
        let acquired = suite.backend.acquire(&[unnamed(suite.acquire_request_of(&run, "gw0"))], None).await;
        for answer in [choose(suite, Some(&run)).await.map(|_| ()), acquired.map(|_| ())] {
            match answer {
                Err(Error::TemplateAmbiguous { current, others, .. }) => {
                    assert_eq!((current, others), ("second".to_owned(), vec!["first".to_owned()]), "{why}");
                }
                other => panic!("{why}: {other:?}"),
            }
        }
    };
    is_ambiguous("a live lease").await;
    suite.release(&lease).await;
    assert_eq!(choose(suite, None).await, Ok(second.clone()), "the lease has ended");
    let wanted = Acquire { fingerprint: Some(first.clone()), ..suite.acquire_request() };
    let target = suite.must_wait(wanted).await;
    let ticket = expect(
        "a ticket",
        suite
            .backend
            .take_ticket(&target, 1, TicketKind::Acquire, &pgdibs_core::request::TicketHolder::default())
            .await,
    );
    is_ambiguous("a waiter").await;
    expect("drop the ticket", suite.backend.drop_ticket(ticket).await);
    let (pool, run) = (suite.pool.clone(), suite.run_id());
    let announce = Announce { run: run.clone(), pool, fingerprint: Some(first), workers: 1, aliases: 1 };
    expect("announce", suite.backend.announce(&announce).await);
    is_ambiguous("an announcement").await;
    let sourced = PoolPatch { sourced: Some(true), ..PoolPatch::default() };
    expect("put the pool", suite.backend.put_pool(&suite.pool, &sourced).await);
    assert_eq!(choose(suite, None).await, Ok(second), "a daemon builds the templates");
    expect("end", suite.backend.end_run(&run).await);
    suite.finish(&logins).await;
}
