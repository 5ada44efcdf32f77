//! Checks of what runs report, and of the inputs of templates.

use super::suite::{expect, fingerprint};
use super::{ConformanceServer, Suite};
use pgdibs_core::backend::{Backend, REPORTS_KEPT};
use pgdibs_core::error::Error;
use pgdibs_core::inputs::Inputs;
use pgdibs_core::name::PoolName;
use pgdibs_core::request::RunReport;

fn inputs(pairs: &[(&str, &str)]) -> Inputs {
    pairs.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect()
}

fn run_report(run: &str, pool: Option<&PoolName>, figures: &str) -> RunReport {
    let (run, figures) = (run.to_owned(), figures.to_owned());
    RunReport { run, pool: pool.cloned(), holder: "ci-7".to_owned(), figures, inputs: Inputs::new() }
}

/// The changes are those since the template that was built last before, and stay when that one is dropped.
pub async fn inputs_are_compared_with_template_built_before<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let backend = &suite.backend;
    let first = suite.build(&fingerprint("first")).await;
    let before = inputs(&[("1.sql", "a"), ("a name with blanks", "b"), ("gone.sql", "c")]);
    assert_eq!(expect("record", backend.record_inputs(first.id, &before).await), None, "nothing was built before");
    // A build that has not succeeded does not count as the one before.
    let failed = suite.begin_build(&fingerprint("failed"), "one").await;
    expect("record", backend.record_inputs(failed.id, &inputs(&[("other", "x")])).await);
    expect("abandon", backend.abandon_build(&suite.pool, &fingerprint("failed"), "one", "no").await);
    let second = suite.build(&fingerprint("second")).await;
    let after = inputs(&[("1.sql", "a"), ("a name with blanks", "B"), ("2.sql", "d")]);
    let changes = expect("record", backend.record_inputs(second.id, &after).await).expect("there is one before");
    assert_eq!(changes.since, fingerprint("first"));
    let lists = [&changes.changed, &changes.added, &changes.removed].map(|names| names.join(","));
    assert_eq!((lists, changes.more), (["a name with blanks", "2.sql", "gone.sql"].map(str::to_owned), 0));
    // The first record stays.
    expect("record again", backend.record_inputs(second.id, &inputs(&[("9.sql", "z")])).await);
    expect("drop", backend.drop_template(&suite.pool, &fingerprint("first")).await);
    suite.idle().await;
    let found = suite.snapshot().await.templates.into_iter().find(|template| template.id == second.id);
    assert_eq!(found.and_then(|template| template.input_changes), Some(changes));
    suite.finish(&logins).await;
}

/// A report is listed for the named pool, and for that of the run's leases after their end; a second one replaces it.
pub async fn report_is_kept_for_each_pool_of_the_run<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 1, 0).await;
    let backend = &suite.backend;
    let (run, other) = (suite.run_id(), suite.run_id());
    let lease = suite.take(suite.acquire_request_of(&run, "gw0")).await;
    suite.release(&lease).await;
    expect("end", backend.end_run(&run).await);
    expect("report", backend.report_run(&run_report(&run, None, "{\"seconds\": {}}")).await);
    expect("report of a run without leases", backend.report_run(&run_report(&other, Some(&suite.pool), "{}")).await);
    let with_inputs = RunReport { inputs: inputs(&[("1.sql", "a")]), ..run_report(&run, None, "{\"workers\": []}") };
    expect("report again", backend.report_run(&with_inputs).await);
    let mut found = expect("list", backend.reported_runs(Some(&suite.pool)).await);
    found.sort_by_key(|kept| kept.run != run);
    let shown: Vec<_> =
        found.iter().map(|kept| (kept.run.as_str(), kept.figures.replace(' ', ""), &kept.holder)).collect();
    let holder = "ci-7".to_owned();
    let expected = [(run.as_str(), "{\"workers\":[]}".to_owned(), &holder), (&other, "{}".to_owned(), &holder)];
    assert_eq!(shown, expected);
    assert!(expect("list all", backend.reported_runs(None).await).len() >= 2);
    // The template has inputs now, with which the next one is compared.
    let second = suite.build(&fingerprint("second")).await;
    let changes = expect("record", backend.record_inputs(second.id, &inputs(&[("1.sql", "b")])).await);
    assert_eq!(changes.map(|changes| changes.changed), Some(vec!["1.sql".to_owned()]));
    suite.finish(&logins).await;
    assert_eq!(expect("list", backend.reported_runs(Some(&suite.pool)).await), [], "they are deleted with the pool");
}

/// The pool must be known: named, or from a lease or an announcement.
pub async fn report_of_run_without_pool_is_rejected<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    let unnamed = suite.backend.report_run(&run_report(&suite.run_id(), None, "{}")).await;
    assert!(matches!(&unnamed, Err(Error::Invalid(invalid)) if invalid.field == "pool"), "{unnamed:?}");
    let unknown = expect("a name", PoolName::parse("no_such_pool"));
    let missing = suite.backend.report_run(&run_report(&suite.run_id(), Some(&unknown), "{}")).await;
    assert!(matches!(missing, Err(Error::PoolNotFound { .. })), "{missing:?}");
    suite.finish(&logins).await;
}

/// The oldest reports of the pool make room.
pub async fn pool_keeps_the_last_reports<B: Backend, S: ConformanceServer>(suite: &Suite<B, S>) {
    let logins = suite.server.logins().await;
    suite.make_pool(0, 1, 0).await;
    for number in 0..REPORTS_KEPT + 2 {
        let run = format!("run-{number}");
        expect("report", suite.backend.report_run(&run_report(&run, Some(&suite.pool), "{}")).await);
    }
    // One that is replaced removes none.
    expect("report", suite.backend.report_run(&run_report("run-50", Some(&suite.pool), "{}")).await);
    let found = expect("list", suite.backend.reported_runs(Some(&suite.pool)).await);
    assert_eq!(found.len(), REPORTS_KEPT);
    let oldest = found.iter().all(|kept| kept.run != "run-0" && kept.run != "run-1");
    assert!(oldest && found.iter().any(|kept| kept.run == "run-2"), "{:?}", found.last());
    suite.finish(&logins).await;
}
