//! `pgdibs template build`: announce, run, seal or abandon.

use serde_json::json;

use crate::process::pgdibs;
use pgdibs_testing::examples::Example;

use crate::stub::{Reply, Stub, lease};

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
fn build_creates_a_missing_pool_and_says_so() {
    let stub = Stub::start(|received, before| match (received.what.as_str(), before) {
        (PUT, 0) => Reply::Problem(404, "pool_not_found", "there is no pool \"shop_test\"", None),
        (PUT, _) => builder_answer(),
        ("PUT /v1/pools/shop_test", _) => Reply::Json(201, Example::Pool.with(&json!({"pool": "shop_test"}))),
        (what, _) if what.ends_with("/seal") => Reply::Json(200, json!({"state": "ready", "fingerprint": "f/1"})),
        _ => Reply::Problem(404, "not_found", "no such route", None),
    });
    let done = run(&stub, "true");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "f/1\n"), "{}", done.stderr);
    assert!(done.stderr.contains("pgdibs: created the pool shop_test, which did not exist; "), "{}", done.stderr);
    assert_eq!(stub.calls()[..3], [PUT, "PUT /v1/pools/shop_test", PUT]);
}

/// Regression: `template list` showed 24 characters of a fingerprint, and no command took them.
#[test]
fn commands_take_the_beginning_of_a_fingerprint() {
    let one = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    let other = "5e88ffffda28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    let stub = Stub::start(move |received, _| match received.what.as_str() {
        "GET /v1/pools/shop_test" => {
            let templates = Example::Template.each(&[json!({"fingerprint": one}), json!({"fingerprint": other})]);
            Reply::Json(200, Example::Pool.with(&json!({"pool": "shop_test", "templates": templates})))
        }
        "POST /v1/leases" => Reply::Json(201, lease(0, "u", 20.0)),
        what if what.starts_with("GET /v1/pools/shop_test/templates/") => {
            Reply::Json(200, Example::Template.with(&json!({"fingerprint": one, "detail": "line 1\nline 2"})))
        }
        _ => Reply::Json(204, json!(null)),
    });
    let run = |words: &[&str]| pgdibs(words).with_daemon(&stub.url).done();
    let done = run(&["lease", "shop_test", "--fingerprint", "5e884"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr.starts_with(&format!("pgdibs: fingerprint 5e884 is that of template {one}\n")),
        "{}",
        done.stderr
    );
    assert_eq!(stub.received().last().unwrap().body["fingerprint"], json!(one));
    run(&["run", "--pool", "shop_test", "--fingerprint", "5e884", "--", "true"]);
    let leased = stub.received().into_iter().rfind(|received| received.what == "POST /v1/leases").unwrap();
    assert_eq!(leased.body["fingerprint"], json!(one));
    assert_eq!(run(&["template", "drop", "shop_test", "5e884898da28…"]).code, Some(0));
    assert_eq!(stub.calls().last().unwrap(), &format!("DELETE /v1/pools/shop_test/templates/{one}"));
    let shown = run(&["template", "show", "shop_test", "5e884"]).stdout;
    assert!(shown.contains(&format!("fingerprint  {one}\n")) && shown.ends_with("\n\nline 1\nline 2\n"), "{shown}");
    let listed = run(&["template", "list", "shop_test", "5e88f"]).stdout;
    assert!(listed.contains("5e88ffffda28…") && !listed.contains("5e884898"), "{listed}");
    let done = run(&["lease", "shop_test", "--fingerprint", "5e88"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    let said = format!("pgdibs: the fingerprints of 2 templates begin with `5e88`: {one}, {other}\nhint: write more");
    assert!(done.stderr.starts_with(&said), "{}", done.stderr);
}

#[test]
fn existing_template_is_not_built() {
    let stub = build(|| Reply::Json(200, json!({"state": "ready"})));
    let done = run(&stub, "echo never; exit 1");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "f/1\n"));
    assert_eq!(stub.calls(), [PUT]);
}
