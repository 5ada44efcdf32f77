//! `pgdibs events`: lines, filters, and what happens when the daemon goes and comes back.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::process::pgdibs;
use crate::stub::{Reply, Stub};

fn event(number: u32, kind: &str, reason: &str) -> String {
    let data = json!({"at": "2026-11-30T21:22:08.123456Z", "kind": kind, "pool": "app", "reason": reason});
    format!("id: 7-{number}\nevent: {kind}\ndata: {data}\n\n")
}

#[test]
fn events_are_lines_or_json() {
    let body =
        format!("retry: 1000\n\n{}: keep-alive\n\n{}", event(1, "run_ended", "it held 2 leases"), event(2, "gap", "x"));
    let stub = Stub::start(move |_, _| Reply::Events(body.clone()));
    let done = pgdibs(&["events"]).with_daemon(&stub.url).done();
    let lines = "2026-11-30T21:22:08.123Z run_ended pool=app reason=\"it held 2 leases\"\n2026-11-30T21:22:08.123Z gap pool=app reason=x\n";
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), lines, ""));
    let filters =
        ["events", "--output", "json", "--pool", "app,b", "--kind", "run_ended", "--kind", "server_lost,lease_granted"];
    let done = pgdibs(&filters).with_daemon(&stub.url).done();
    let first: serde_json::Value = serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((done.stdout.lines().count(), &first["kind"]), (2, &json!("run_ended")));
    let asked = "GET /v1/events?follow=false&pool=app&pool=b&kind=run_ended&kind=server_lost&kind=lease_granted";
    assert_eq!(stub.calls(), ["GET /v1/events?follow=false", asked]);
}

#[test]
fn wrong_kind_is_refused_with_the_list() {
    let done = pgdibs(&["events", "--kind", "lease_lost"]).done();
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("lease_renewed_late") && done.stderr.contains("run_ended"), "{}", done.stderr);
}

#[test]
fn follow_goes_on_after_the_last_event_until_interrupted() {
    let stub = Stub::start(|_, before| match before {
        0 => Reply::Events(event(1, "run_admitted", "first")),
        1 => Reply::Problem(503, "server_unavailable", "the daemon is starting", Some(1)),
        2 => Reply::Events(event(2, "run_ended", "second")),
        _ => Reply::Never,
    });
    let mut running = pgdibs(&["events", "--follow"]).with_daemon(&stub.url).with_default_signals().start();
    running.wait_for_line("second");
    stub.wait_for("GET /v1/events?follow=true", 4);
    running.signal(Signal::SIGINT);
    let done = running.done_by_itself();
    assert_eq!(done.stderr, "pgdibs: waiting for the daemon: the daemon is starting\n");
    let last: Vec<String> = stub.received().into_iter().map(|received| received.last_event_id).collect();
    assert_eq!(last, ["", "7-1", "7-1", "7-2"]);
}

#[test]
fn refusal_ends_the_command() {
    let stub = Stub::start(|_, _| Reply::Problem(401, "unauthorized", "the token is wrong", None));
    let done = pgdibs(&["events", "--follow"]).with_daemon(&stub.url).done();
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("the token is wrong"), "{}", done.stderr);
}
