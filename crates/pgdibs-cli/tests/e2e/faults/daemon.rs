//! Faults of the daemon: SIGTERM, SIGSTOP, and no free file descriptors.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::server::assert_logged_once;
use pgdibs_testing::end_to_end::renewer::Renewer;
use pgdibs_testing::end_to_end::{Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(20);

/// SIGTERM under load: all requests are answered, leases survive, and the next daemon continues.
pub(super) fn sigterm_under_load() {
    let (stage, mut daemon) = Stage::set(&[], &[]);
    for _ in 0..3 {
        daemon = stage.load().during(stage::CALLERS, || {
            stage.ledger.until_served(stage::CALLERS as usize);
            // A batch of all slots waits, because the permanent holder has one.
            let acquire_request = json!({"pool": stage.pool, "fingerprint": "first"});
            let batch = json!({"leases": vec![acquire_request; 6], "wait_seconds": 60});
            let api = stage.api.clone();
            let waiter = std::thread::spawn(move || api.post("/v1/leases/batch", &batch));
            let mut catalog = stage.catalog();
            until("the batch waits", || match catalog.text("select count(*) from tickets where count = 6").as_str() {
                "1" => Ok(()),
                seen => Err(seen.to_owned()),
            });
            daemon.signal(Signal::SIGTERM);
            waiter.join().expect("it is answered").refused(503, "shutting_down");
            let (status, took) = daemon.ended();
            assert!(status.success() && took < Duration::from_secs(8), "{status} after {took:?}: {}", daemon.log());
            assert_logged_once(&daemon, &["shutting down: no new grants, waiters are answered"]);
            let successor = stage.start(&[]);
            stage.ledger.until_served(stage::CALLERS as usize);
            successor
        });
    }
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// SIGSTOP for three TTLs. Renewals that wait in the socket and renewals shortly afterwards count before any lease ends; an
/// unrenewed lease expires later.
///
/// Regression: after SIGSTOP for less than five seconds, leases expired although their renewals waited in the socket (found by
/// SIGSTOP).
pub(super) fn stopped_for_three_ttls() {
    let (stage, daemon) = Stage::set(&[], &[]);
    for ttl in [1, 2] {
        stage.under_load(|| {
            let renewer = Renewer::start(&stage, ttl);
            renewer.assert_live();
            let acquire_request =
                |ttl: u64| json!({"pool": stage.pool, "fingerprint": "first", "ttl_seconds": ttl, "wait_seconds": 30});
            let (left, asleep) = (stage.api.lease(&acquire_request(ttl)), stage.api.lease(&acquire_request(2)));
            // The reconciler has them in a snapshot by then.
            renewer.assert_live();
            let path = |lease: &Value| format!("/v1/leases/{}", lease["id"].as_str().unwrap());
            daemon.signal(Signal::SIGSTOP);
            // The duration of the tested stop.
            std::thread::sleep(Duration::from_millis(ttl * 3000 + 200));
            daemon.signal(Signal::SIGCONT);
            // On a suspended laptop the holders sleep as well, and renew shortly after the daemon's snapshot.
            std::thread::sleep(Duration::from_millis(300));
            stage.api.post(&format!("{}/renew", path(&asleep)), &json!({})).expect(200);
            stage.api.release(&asleep);
            renewer.release();
            let path = path(&left);
            until("the unrenewed lease expires", || {
                let seen = stage.api.get(&path).expect(200);
                if seen["state"] == "expired" { Ok(()) } else { Err(seen.to_string()) }
            });
        });
    }
    assert!(daemon.log().contains("this process did not run for"), "{}", daemon.log());
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// As many idle connections as the daemon may have open files. It survives, logs this, and serves again when they close.
pub(super) fn no_file_descriptors_left() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let limit = |files: usize| {
        let (pid, files) = (daemon.pid().to_string(), format!("--nofile={files}:4096"));
        let done = Command::new("prlimit").args(["--pid", &pid, &files]).status().unwrap();
        assert!(done.success(), "prlimit (util-linux) failed");
    };
    stage.under_load(|| {
        limit(daemon.open_files() + 3);
        let address = stage.api.url().replace("http://", "");
        let began = Instant::now();
        let mut idle = Vec::new();
        while began.elapsed() < Duration::from_secs(3) {
            // The kernel queues them even if the daemon cannot accept.
            idle.extend((0..5).filter_map(|_| TcpStream::connect(&address).ok()));
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(idle);
        limit(1024);
    });
    assert!(daemon.log().contains("could not accept a connection"), "{}", daemon.log());
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}
