//! `pgdibs template build`: announce, run, seal or abandon.

use serde_json::json;

use crate::process::pgdibs;
use pgdibs_testing::examples::Example;

use crate::stub::{Reply, Stub};

const PUT: &str = "PUT /v1/pools/shop_test/templates/f%2F1";

fn build(first: fn() -> Reply) -> Stub {
    Stub::start(move |received, _| match received.what.as_str() {
        PUT => first(),
        what if what.ends_with("/seal") => Reply::Json(200, json!({"state": "ready", "fingerprint": "f/1"})),
        what if what.ends_with("/abandon") => Reply::Json(204, json!(null)),
        _ => Reply::Problem(404, "not_found", "no such route", None),
    })
}

fn builder_answer() -> Reply {
    let build = json!({"token": "t1", "url": "postgresql://b:w@127.0.0.1:54321/shop_test_build_1"});
    Reply::Json(201, Example::Build.with(&json!({"state": "building", "build": build})))
}

fn run(stub: &Stub, script: &str) -> crate::process::Done {
    pgdibs(&["template", "build", "shop_test", "--fingerprint", "f/1", "--", "sh", "-c", script])
        .with_daemon(&stub.url)
        .done()
}

#[test]
fn build_of_a_successful_command_is_sealed() {
    let stub = build(builder_answer);
    let done = run(&stub, "echo $PGDATABASE $DATABASE_URL >&2");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "f/1\n"), "{}", done.stderr);
    assert!(
        done.stderr.contains("shop_test_build_1 postgresql://b:w@127.0.0.1:54321/shop_test_build_1"),
        "{}",
        done.stderr
    );
    let received = stub.received();
    assert_eq!(stub.calls(), [PUT.to_owned(), format!("{}/seal", PUT.replace("PUT", "POST"))]);
    assert_eq!(received[1].body, json!({"token": "t1"}));
    assert_eq!(received[0].body["wait_seconds"], json!(600.0));
}

#[test]
fn build_of_a_failed_command_is_abandoned() {
    let stub = build(builder_answer);
    let done = run(&stub, "exit 9");
    assert_eq!((done.code, done.stdout.as_str()), (Some(9), ""));
    assert_eq!(stub.calls()[1], format!("{}/abandon", PUT.replace("PUT", "POST")));
    assert_eq!(stub.received()[1].body, json!({"token": "t1", "detail": "`sh -c exit 9` ended with 9"}));
}

#[test]
fn existing_template_is_not_built() {
    let stub = build(|| Reply::Json(200, json!({"state": "ready"})));
    let done = run(&stub, "echo never; exit 1");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "f/1\n"));
    assert_eq!(stub.calls(), [PUT]);
}
