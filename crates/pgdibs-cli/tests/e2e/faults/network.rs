//! The line between the daemon and its server: cut and slowed at every step, hanging, and dead without a word. The tests' own
//! sessions go another way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgdibs_failpoint::Point;

use super::steps::{Provoker, armed, tidy_up};
use crate::support::readiness::Readiness;
use crate::support::{Cluster, Daemon, Link, Place, Proxy, Stage, StopOnDrop, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(30);

/// A stage whose daemon reaches its server by way of a proxy.
fn behind_a_proxy(max_connections: u32) -> (Stage, Daemon, Proxy) {
    let cluster = Cluster::start(&["max_prepared_transactions=10", &format!("max_connections={max_connections}")]);
    let proxy = Proxy::to(cluster.port());
    let place = Place::on(&cluster.url_by(proxy.port()));
    let direct = format!("127.0.0.1:{}", cluster.port());
    let (stage, daemon) = Stage::with(cluster, place, &[("PGDIBS_ADVERTISE", &direct)], "");
    (stage, daemon, proxy)
}

/// Holds the daemon at each point under load, does something to the line, and lets it go on.
fn at_each(points: &[Point], audit_each: bool, fault: impl Fn(&Proxy), after: impl Fn(&Stage, Point, &Proxy)) {
    let (stage, mut daemon, proxy) = behind_a_proxy(60);
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
                // Whoever led the daemon to the point waits for its answer while the daemon is held there.
                scope.spawn(|| {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        provoker.provoke(point, round);
                        round += 1;
                    }
                });
                until(&format!("the daemon is at {}", point.name()), || {
                    stage.ledger.assert_spotless();
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
            tidy_up(&stage);
            let audit = stage.audit(&daemon, FULL_AGAIN);
            println!("{:24} full {:.1?} after the load, {:.1?} in all", point.name(), audit.settled, began.elapsed());
        }
    }
    tidy_up(&stage);
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// Every connection is reset while the daemon is at the point.
pub(super) fn cut_at_each(points: &[Point]) {
    at_each(points, true, Proxy::cut_once, |_, _, _| {});
}

/// From the point on, everything takes a tenth of a second longer each way, for a while. Answers are slower, and no others.
pub(super) fn slow_at_each(points: &[Point]) {
    let slow = |proxy: &Proxy| proxy.set(Link::Slow(Duration::from_millis(100)));
    at_each(points, false, slow, |stage, point, proxy| {
        let before = stage.ledger.unavailable();
        // The slowness has to last.
        std::thread::sleep(Duration::from_secs(2));
        let after = stage.ledger.unavailable();
        proxy.set(Link::Open);
        assert!(after == before, "told to ask again at {}, which is merely slow: {after:?}", point.name());
    });
}

/// A line that hangs for a while, with the reconciler in the middle of a step: everybody is told in time, and it goes on when the line
/// does.
///
/// Regression: `/readyz` said ready for up to 26 s when the line began to hang in the middle of a fast step (found by the loop
/// of clocks, on a busy machine).
pub(super) fn a_line_that_hangs() {
    let (stage, daemon, proxy) = behind_a_proxy(60);
    daemon.kill();
    let held = stage.place.path().join("held");
    let mut daemon = armed(&stage, Point::ReturnRenamed, &format!("hold:{}", held.display()));
    daemon.until_ready();
    let (readiness, (down, up)) = Readiness::during(&stage.api, || {
        stage.load().during(stage::CALLERS, || {
            until("the daemon is in the middle of a step", || if held.exists() { Ok(()) } else { Err(String::new()) });
            proxy.set(Link::Stalled);
            let down = Instant::now();
            std::fs::remove_file(&held).unwrap();
            // Whoever asks meanwhile is told within ten seconds, and a bit.
            stage.api.get("/v1/leases").refused(503, "server_unavailable");
            assert!(down.elapsed() < Duration::from_secs(12), "told after {:?}", down.elapsed());
            // The silence lasts longer than any deadline of ours.
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

/// The connections there are go dead without a word, as when a route or an address changes; new ones work. Several times, since each
/// time only those that are in use just then are lost for good.
///
/// Regression: whoever used a connection that had died without a word waited for ever, the reconciler too (found by a proxy
/// that goes silent).
///
/// Regression: leadership stayed locked by a session whose other end had gone (found by a proxy that goes silent).
///
/// Regression: a reconciler whose connection died in the middle of fast steps waited up to 26 s for an answer, and longer when
/// the line it asked on was dead too (found by connections that die five times in a row).
pub(super) fn connections_that_are_dead() {
    // To the server the dead ones are as good as any, until its keepalives say otherwise.
    let (stage, daemon, proxy) = behind_a_proxy(400);
    stage.under_load(|| {
        for _ in 0..5 {
            proxy.freeze();
            let took = stage.ledger.until_served(stage::CALLERS as usize);
            println!("served again after {took:?}");
            assert!(took < Duration::from_secs(30), "served again after {took:?}");
        }
        // Their server finds them dead as well.
        proxy.bury();
    });
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}
