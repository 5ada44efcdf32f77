//! Connections between the daemon and its server: cut and slowed at every failpoint, stalled, and silently dead. The sessions of
//! the tests bypass the proxy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgdibs_failpoint::Failpoint;

use super::steps::{Provoker, armed, clean_up};
use pgdibs_testing::end_to_end::readiness::Readiness;
use pgdibs_testing::end_to_end::{Cluster, Daemon, Link, Place, Proxy, Stage, StopOnDrop, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(30);

/// A stage whose daemon connects to its server through a proxy.
fn stage_with_proxy(max_connections: u32) -> (Stage, Daemon, Proxy) {
    let cluster = Cluster::start(&["max_prepared_transactions=10", &format!("max_connections={max_connections}")]);
    let proxy = Proxy::to(cluster.port());
    let place = Place::on(&cluster.url_by(proxy.port()));
    let direct = format!("127.0.0.1:{}", cluster.port());
    let (stage, daemon) = Stage::with(cluster, place, &[("PGDIBS_ADVERTISE", &direct)], "");
    (stage, daemon, proxy)
}

/// Holds the daemon at each failpoint under load, injects the fault, and lets the daemon continue.
fn at_each(points: &[Failpoint], audit_each: bool, fault: impl Fn(&Proxy), after: impl Fn(&Stage, Failpoint, &Proxy)) {
    let (stage, mut daemon, proxy) = stage_with_proxy(60);
    let file = stage.place.path().join("held");
    let hold = format!("hold:{}", file.display());
    for &point in points {
        let began = Instant::now();
        daemon = stage.load().during(stage::CALLERS, || {
            daemon.kill();
            let daemon = armed(&stage, point, &hold);
            let (provoker, stop) = (Provoker::of(&stage), AtomicBool::new(false));
            std::thread::scope(|scope| {
                let stopping = StopOnDrop(&stop);
                // The request that triggers the failpoint waits while the daemon is held there.
                scope.spawn(|| {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        provoker.trigger(point, round);
                        round += 1;
                    }
                });
                until(&format!("the daemon is at {}", point.name()), || {
                    stage.ledger.assert_no_violations();
                    if file.exists() { Ok(()) } else { Err(String::new()) }
                });
                fault(&proxy);
                std::fs::remove_file(&file).unwrap();
                after(&stage, point, &proxy);
                drop(stopping);
            });
            stage.ledger.until_served(stage::CALLERS as usize);
            daemon
        });
        if audit_each {
            clean_up(&stage);
            let audit = stage.audit(&daemon, FULL_AGAIN);
            println!("{:24} full {:.1?} after the load, {:.1?} in all", point.name(), audit.settled, began.elapsed());
        }
    }
    clean_up(&stage);
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// Resets every connection while the daemon is at the failpoint.
pub(super) fn cut_at_each(points: &[Failpoint]) {
    at_each(points, true, Proxy::cut_once, |_, _, _| {});
}

/// From the failpoint on, all traffic is delayed by 0.1 s in each direction for a while. Answers are slower, but not different.
pub(super) fn slow_at_each(points: &[Failpoint]) {
    let slow = |proxy: &Proxy| proxy.set(Link::Slow(Duration::from_millis(100)));
    at_each(points, false, slow, |stage, point, proxy| {
        let before = stage.ledger.unavailable();
        // The duration of the delay.
        std::thread::sleep(Duration::from_secs(2));
        let after = stage.ledger.unavailable();
        proxy.set(Link::Open);
        assert!(
            after == before,
            "`server_unavailable` at {}, although the server is only slow: {after:?}",
            point.name()
        );
    });
}

/// Connections stall for a while during a step: all requests are answered in time, and the daemon continues afterwards.
///
/// Regression: `/readyz` was ready for up to 26 s when connections stalled during a fast step (found by the test of clock jumps,
/// on a busy machine).
pub(super) fn hanging_connection() {
    let (stage, daemon, proxy) = stage_with_proxy(60);
    daemon.kill();
    let held = stage.place.path().join("held");
    let mut daemon = armed(&stage, Failpoint::ReturnRenamed, &format!("hold:{}", held.display()));
    daemon.until_ready();
    let (readiness, (down, up)) = Readiness::during(&stage.api, || {
        stage.load().during(stage::CALLERS, || {
            until("the daemon executes a step", || if held.exists() { Ok(()) } else { Err(String::new()) });
            proxy.set(Link::Stalled);
            let down = Instant::now();
            std::fs::remove_file(&held).unwrap();
            // A request is answered within slightly more than ten seconds.
            stage.api.get("/v1/leases").refused(503, "server_unavailable");
            assert!(down.elapsed() < Duration::from_secs(12), "answered after {:?}", down.elapsed());
            // The stall is longer than any timeout of the daemon.
            std::thread::sleep(Duration::from_secs(20).saturating_sub(down.elapsed()));
            let up = Instant::now();
            proxy.set(Link::Open);
            stage.ledger.until_served(stage::CALLERS as usize);
            (down, up)
        })
    });
    readiness.assert_unready_between(down + Duration::from_secs(5), up);
    let ready = readiness.ready_after(up);
    assert!(
        ready.is_some_and(|after| after < Duration::from_secs(15)),
        "ready {ready:?} after the line was open again"
    );
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// Existing connections die silently, as after a change of a route or an address; new ones work. The fault is repeated because each
/// time affects only the connections in use.
///
/// Regression: requests and the reconciler waited for ever on a connection that had died silently (found by a freezing proxy).
///
/// Regression: a session without its client kept the leadership lock (found by a freezing proxy).
///
/// Regression: a reconciler whose connection died during fast steps waited up to 26 s, and longer if the checking connection was
/// dead too (found by five repetitions of this fault).
pub(super) fn dead_connections() {
    // The server counts the dead connections until its keepalives close them.
    let (stage, daemon, proxy) = stage_with_proxy(400);
    stage.under_load(|| {
        for _ in 0..5 {
            proxy.freeze();
            let took = stage.ledger.until_served(stage::CALLERS as usize);
            println!("served again after {took:?}");
            assert!(took < Duration::from_secs(30), "served again after {took:?}");
        }
        // The server closes them as well.
        proxy.close_frozen();
    });
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}
