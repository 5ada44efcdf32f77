//! Two daemons on one server: one reconciles, both serve, and the second takes over when the first is killed.

use std::sync::mpsc::channel;
use std::time::Duration;

use pgdibs::Method;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::program::{run, timed};
use pgdibs_testing::end_to_end::{Api, Cluster, Daemon, Place, Session, pool_name, until};

fn reconciles(api: &Api) -> bool {
    api.status()["daemon"]["reconciling"] == json!(true)
}

fn acquire_for(api: &Api, pool: &str, holder: &str) -> Value {
    let acquire_request = json!({"pool": pool, "holder": holder, "wait_seconds": 60});
    api.call(Method::POST, "/v1/leases", Some(&acquire_request)).expect(201)
}

#[test]
fn both_daemons_serve_and_the_second_takes_over() {
    let cluster = Cluster::start(&[]);
    let (here, there) = (Place::on(&cluster.url()), Place::on(&cluster.url()));
    let first = here.daemon(&[]);
    let pool = pool_name("two");
    let settings = json!({"warm": 1, "max": 1, "spares": 1});
    first.api.make_pool(&pool, &settings, "create table witness (id bigserial primary key, note text)");
    let second = there.daemon(&[]);
    assert!(reconciles(&first.api) && !reconciles(&second.api));
    events_of_one_daemon_arrive_at_the_other(&here, &first.api, &second.api, &pool);
    lost_listener_leaves_a_gap(&cluster, &second.api);

    // Requests of both daemons wait for one database and are served in order.
    let held = acquire_for(&second.api, &pool, "the first one");
    Session::of(&held).run("insert into witness (note) values ('dirt')");
    let order = ["second", "first", "second", "first"];
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for (place, which) in order.iter().enumerate() {
            let api = if *which == "first" { &first.api } else { &second.api };
            let (sender, pool) = (sender.clone(), &pool);
            scope.spawn(move || {
                let lease = acquire_for(api, pool, which);
                sender.send((place, Session::of(&lease).text("select count(*) from witness"))).unwrap();
                Session::of(&lease).run("insert into witness (note) values ('dirt')");
                api.release(&lease);
            });
            first.api.until_waiting(pool, place as u64 + 1);
        }
        drop(sender);
        // Released at the daemon that does not reconcile, and cleaned by the other.
        second.api.release(&held);
        let served: Vec<(usize, String)> = receiver.iter().collect();
        let clean: Vec<(usize, String)> = (0..order.len()).map(|place| (place, "0".to_owned())).collect();
        assert_eq!(served, clean, "the served requests and the contents they found");
    });
    first.api.until_counts(&pool, &json!({"ready": 1, "spare": 1, "leased": 0, "retiring": 0, "creating": 0}));

    // Each daemon has one lease when the reconciling one is killed.
    let lease = acquire_for(&first.api, &pool, "survivor");
    let mut session = Session::of(&lease);
    session.run("insert into witness (note) values ('mine')");
    first.kill();
    let (took, ()) = timed(|| take_over(&second));
    assert!(took < Duration::from_secs(5), "the takeover took {took:?}");
    session.run("insert into witness (note) values ('still mine')");
    let id = lease["id"].as_str().unwrap();
    second.api.post(&format!("/v1/leases/{id}/reset"), &json!({"generation": 1})).expect(200);
    assert_eq!(Session::of(&lease).text("select count(*) from witness"), "0");
    second.api.release(&lease);
    let next = acquire_for(&second.api, &pool, "after the change");
    assert_eq!(Session::of(&next).text("select count(*) from witness"), "0");
    second.api.release(&next);

    // A third daemon starts, and the second ends with SIGTERM.
    let third = here.daemon(&[]);
    // An id of another daemon: what happened since then is not known.
    let instance = second.api.status()["daemon"]["instance"].as_str().unwrap().to_owned();
    let stream = third.api.get(&format!("/v1/events?follow=false&since={instance}-1")).body;
    let stream = stream.as_str().unwrap();
    let kinds: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).take(2).collect();
    assert_eq!(kinds, ["gap", "status"], "{stream}");
    second.stop();
    let (took, ()) = timed(|| take_over(&third));
    assert!(took < Duration::from_secs(5), "the takeover took {took:?}");
    third.api.release(&acquire_for(&third.api, &pool, "the last one"));
    third.stop();
}

/// What `pgdibs events` prints.
fn events(place: &Place, api: &Api, arguments: &[&str]) -> Vec<String> {
    let url = api.url();
    let mut all = vec!["events", "--url", &url];
    all.extend(arguments);
    run(place.program(&all, &[])).well().lines().map(str::to_owned).collect()
}

/// One cycle at the first daemon, seen at the second: every event once, in order, with the first daemon's instance.
fn events_of_one_daemon_arrive_at_the_other(place: &Place, first: &Api, second: &Api, pool: &str) {
    let instance = first.status()["daemon"]["instance"].as_str().unwrap().to_owned();
    // A daemon looks for others once a second.
    let held = until("the second daemon hears of a lease of the first", || {
        let held = acquire_for(first, pool, "the holder");
        let heard = events(place, second, &["--kind", "lease_granted"]);
        if heard.iter().any(|line| line.contains(held["id"].as_str().unwrap())) {
            return Ok(held);
        }
        first.release(&held);
        Err(format!("{heard:?}"))
    });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| acquire_for(first, pool, "the waiter"));
        first.until_waiting(pool, 1);
        first.release(&held);
        first.release(&waiting.join().unwrap());
    });
    let expected = [
        "wait_begun the waiter",
        "lease_released the holder",
        "wait_ended the waiter",
        "lease_granted the waiter",
        "lease_released the waiter",
    ];
    until("one cycle arrives in order", || {
        let kinds = "lease_granted,lease_released,wait_begun,wait_ended,database_dropped,database_cloned";
        let lines = events(place, second, &["--pool", pool, "--output", "json", "--kind", kinds]);
        let mut all: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let begun = all.iter().position(|event| event["kind"] == "wait_begun" && event["holder"] == "the waiter");
        let begun = begun.ok_or("no wait yet")?;
        all.drain(..begun);
        let of_leases: Vec<String> = all
            .iter()
            .filter(|event| event["holder"].is_string())
            .map(|event| format!("{} {}", event["kind"].as_str().unwrap(), event["holder"].as_str().unwrap()))
            .collect();
        let after =
            |kind: &str| all.iter().filter(|event| event["kind"] == kind && event["seconds"].is_number()).count();
        let is_whole = of_leases == expected && after("database_dropped") >= 2 && after("database_cloned") >= 1;
        assert!(all.iter().all(|event| event["daemon"] == instance.as_str()), "{lines:#?}");
        if is_whole { Ok(()) } else { Err(format!("{lines:#?}")) }
    });
}

/// What another daemon sends while a daemon has no listener is lost, which the daemon says once it listens again.
fn lost_listener_leaves_a_gap(cluster: &Cluster, second: &Api) {
    let kinds = || {
        let stream = second.get("/v1/events?follow=false&kind=server_lost").body;
        let lines = stream.as_str().unwrap().lines();
        lines.filter_map(|line| line.strip_prefix("event: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(kinds(), Vec::<String>::new());
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgdibs-listener %'";
    Session::try_open(&cluster.url()).unwrap().run(end);
    until("the gap and a fresh status", || match kinds().as_slice() {
        [gap, status] if gap == "gap" && status == "status" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn take_over(daemon: &Daemon) {
    until("the daemon reconciles", || if reconciles(&daemon.api) { Ok(()) } else { Err("not yet".to_owned()) });
}
