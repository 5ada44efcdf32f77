//! The words and sentences of an overview, from statuses as the API answers them.

use pgdibs_testing::examples::Example;
use serde_json::{Value, json};

use super::*;

fn status(fields: &Value) -> Status {
    serde_json::from_value(Example::Status.with(fields)).unwrap()
}

fn pool(fields: &Value) -> Value {
    let mut pool = json!({"pool": "app", "max": 2, "blocked": [], "templates": [],
        "counts": {"ready": 1, "leased": 0, "waiting": 0}});
    pool.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Example::Pool.with(&pool)
}

fn word(fields: &Value) -> (&'static str, String) {
    let headline = headline(&status(fields));
    assert!(!headline.why.is_empty(), "{headline:?}");
    (headline.word, headline.why.join(" | "))
}

fn waiter(fields: &Value) -> Value {
    let mut waiter = json!({"ticket": 5, "pool": "app", "fingerprint": "v1", "wants": "acquire", "count": 1,
        "run": null, "worker": null, "holder": "", "waited_seconds": 1.0});
    waiter.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    waiter
}

#[test]
fn headline_names_worst_state_and_its_reason() {
    let lost = json!({"server": {"reachable": false, "detail": "connection refused"}});
    assert_eq!(word(&lost), ("Server lost", "connection refused".to_owned()));
    let starting = json!({"server": {"reachable": false, "version": null, "detail": "initdb runs"},
        "daemon": {"ready": false, "reasons": ["initdb runs"]}});
    assert_eq!(word(&starting), ("Starting", "initdb runs".to_owned()));
    let unready = json!({"daemon": {"ready": false, "reasons": ["pool a: the build failed"]}});
    assert_eq!(word(&unready), ("Not ready", "pool a: the build failed".to_owned()));
    assert_eq!(word(&json!({"server": {"limits": {"below_disk_floor": true}}})).0, "Disk full");
    let waiting = pool(&json!({"counts": {"leased": 2, "waiting": 3}, "longest_wait_seconds": 4.0}));
    assert_eq!(
        word(&json!({"pools": [waiting]})),
        ("Waiting", "app: 3 callers wait, the longest for 4.0 s; all 2 slots are leased".to_owned())
    );
    let failed = json!({"templates": [Example::Template.with(&json!({"state": "failed", "fingerprint": "abc"}))]});
    assert_eq!(word(&json!({"pools": [pool(&failed)]})), ("Attention", "app: template abc failed".to_owned()));
    assert_eq!(word(&json!({"pools": [pool(&json!({}))]})), ("Ready", "1 ready, none leased".to_owned()));
    assert_eq!(word(&json!({"pools": []})), ("Ready", "there is no pool yet".to_owned()));
}

#[test]
fn runs_have_their_workers_in_order_and_common_holder() {
    let lease = |worker: &str, slot: u32| json!({"pool": "app", "run": "r1", "worker": worker, "slot": slot, "holder": format!("ci-7/pid 4/{worker}")});
    let status = status(&json!({
        "runs": [{"run": "r1", "pool": "app", "fingerprint": null, "wanted": 4, "held": 3},
                 {"run": "r2", "pool": "app", "fingerprint": null, "wanted": 2, "held": 0}],
        "leases": Example::Lease.each(&[lease("gw10", 0), lease("gw2", 1), lease("gw1", 2)]),
        "waiters": [waiter(&json!({"run": "r3", "holder": "ci-9"}))],
    }));
    let runs = runs(&status);
    let shown: Vec<_> = runs.iter().map(|run| (run.run, run.wanted, run.leases.len(), run.waiters.len())).collect();
    assert_eq!(shown, [("r1", 4, 3, 0), ("r2", 2, 0, 0), ("r3", 0, 0, 1)]);
    let workers: Vec<_> = runs[0].leases.iter().map(|lease| lease.worker.as_deref().unwrap()).collect();
    assert_eq!(
        (workers, runs[0].holder.as_str(), runs[2].holder.as_str()),
        (vec!["gw1", "gw2", "gw10"], "ci-7/pid 4", "ci-9")
    );
}

#[test]
fn waiter_of_full_pool_waits_for_its_holders() {
    let leases = Example::Lease.each(&[
        json!({"pool": "app", "run": "r1"}),
        json!({"pool": "app", "run": "r1"}),
        json!({"pool": "app", "run": null, "holder": "ada"}),
        json!({"pool": "other", "run": "r9"}),
    ]);
    let full = pool(&json!({"counts": {"leased": 2}}));
    let waiters = [waiter(&json!({})), waiter(&json!({"ticket": 9})), waiter(&json!({"ticket": 4, "wants": "reset"}))];
    let said = |pool: Value| {
        let status = status(&json!({"pools": [pool], "leases": leases, "waiters": waiters}));
        status.waiters.iter().map(|waiter| waits_for(&status, waiter)).collect::<Vec<_>>()
    };
    let (holders, two) = ("run r1 (2 leases), ada (1 lease)", "; behind 2 other callers");
    assert_eq!(
        said(full),
        [format!("{holders}; behind 1 other caller"), format!("{holders}{two}"), "a spare".to_owned()]
    );
    let free = pool(&json!({"max": 9, "counts": {"leased": 2}}));
    assert_eq!(said(free)[1], format!("a clone that is being made{two}"));
    let building = Example::Template.with(&json!({"state": "building", "fingerprint": "v1", "holder": "ci-7"}));
    assert_eq!(said(pool(&json!({"templates": [building]})))[0], "its template, which ci-7 builds");
}
