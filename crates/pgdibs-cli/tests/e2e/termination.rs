//! SIGTERM: no new leases, answers to waiting requests, and an end within 8 s whatever the server does. A second one: at once.

use std::time::Duration;

use nix::sys::signal::Signal;
use pgdibs::Method;
use serde_json::json;

use pgdibs_testing::end_to_end::program::timed;
use pgdibs_testing::end_to_end::{Cluster, Place, pool_name, signal, until};

#[test]
fn sigterm_answers_waiters_and_ends_within_8_seconds() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    // The reset waits for the second clone, which is held until all requests are answered.
    let held_back = place.path().join("held");
    let mut daemon =
        place.daemon(&[("PGDIBS_TEST_FAILPOINT", &format!("clone:login-made@2=hold:{}", held_back.display()))]);
    let api = daemon.api.clone();
    let pool = pool_name("term");
    api.make_pool(&pool, &json!({"warm": 1, "max": 1, "spares": 0}), "create table t (id int)");
    let held = api.lease(&json!({"pool": pool}));
    let acquire_request = json!({"pool": pool, "wait_seconds": 60});
    let reset = format!("/v1/leases/{}/reset", held["id"].as_str().unwrap());
    let builder = format!("/v1/pools/{pool}/templates/another");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| api.call(Method::POST, "/v1/leases", Some(&acquire_request)));
        let building = api.put(&builder, &json!({})).expect(201);
        assert_eq!(building["state"], "building");
        let other = scope.spawn(|| api.call(Method::PUT, &builder, Some(&json!({"wait_seconds": 60}))));
        let resetter = scope.spawn(|| api.call(Method::POST, &reset, Some(&json!({"wait_seconds": 60}))));
        api.until_waiting(&pool, 2);
        until("a clone for the reset is in progress", || if held_back.exists() { Ok(()) } else { Err(String::new()) });
        daemon.signal(Signal::SIGTERM);
        let (took, status) = timed(|| {
            for answer in [waiter.join().unwrap(), other.join().unwrap(), resetter.join().unwrap()] {
                answer.refused(503, "shutting_down");
            }
            std::fs::remove_file(&held_back).unwrap();
            daemon.ended().0
        });
        assert_eq!(status.code(), Some(0), "{}", daemon.log());
        assert!(took < Duration::from_secs(8), "took {took:?}: {}", daemon.log());
    });

    // The lease survives. Now the server hangs: it accepts connections and answers nothing.
    let mut daemon = place.daemon(&[]);
    daemon.api.post(&format!("/v1/leases/{}/renew", held["id"].as_str().unwrap()), &json!({})).expect(200);
    for pid in cluster.pids() {
        signal(pid, Signal::SIGSTOP);
    }
    daemon.signal(Signal::SIGTERM);
    let (status, took) = daemon.ended();
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(took < Duration::from_secs(8), "took {took:?}: {}", daemon.log());
    for pid in cluster.pids() {
        signal(pid, Signal::SIGCONT);
    }
}

#[test]
fn second_signal_ends_the_daemon_at_once() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let mut daemon = place.daemon(&[]);
    for pid in cluster.pids() {
        signal(pid, Signal::SIGSTOP);
    }
    // The kernel can merge two equal pending signals, so the test waits until the daemon has handled the first.
    daemon.signal(Signal::SIGTERM);
    until("the daemon has handled the first signal", || {
        if daemon.log().contains("shutting down") { Ok(()) } else { Err(daemon.log()) }
    });
    daemon.signal(Signal::SIGTERM);
    let (took, (status, _)) = timed(|| daemon.ended());
    assert_eq!(status.code(), Some(130), "{}", daemon.log());
    assert!(took < Duration::from_secs(1), "took {took:?}: {}", daemon.log());
    for pid in cluster.pids() {
        signal(pid, Signal::SIGCONT);
    }
}
