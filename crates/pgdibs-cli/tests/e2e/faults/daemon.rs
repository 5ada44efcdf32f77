//! Faults of the daemon: it is told to end, stopped for a while, or has no file descriptors left.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::server::assert_said_once;
use crate::support::renewer::Renewer;
use crate::support::{Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(20);

/// SIGTERM under load: everybody is answered, leases live on, and the next daemon goes on with what is left.
pub(super) fn told_to_end() {
    let (stage, mut daemon) = Stage::set(&[], &[]);
    for _ in 0..3 {
        daemon = stage.load().during(stage::CALLERS, || {
            stage.ledger.until_served(stage::CALLERS as usize);
            // As many at once as there are slots are never free, since somebody steady holds one: this one waits.
            let acquire_request = json!({"pool": stage.pool, "fingerprint": "first"});
            let batch = json!({"leases": vec![acquire_request; 6], "wait_seconds": 60});
            let api = stage.api.clone();
            let waiter = std::thread::spawn(move || api.post("/v1/leases/batch", &batch));
            let mut catalog = stage.catalog();
            until("it waits", || match catalog.text("select count(*) from tickets where count = 6").as_str() {
                "1" => Ok(()),
                seen => Err(seen.to_owned()),
            });
            daemon.signal(Signal::SIGTERM);
            waiter.join().expect("it is answered").refused(503, "shutting_down");
            let (status, took) = daemon.ended();
            assert!(status.success() && took < Duration::from_secs(8), "{status} after {took:?}: {}", daemon.log());
            assert_said_once(&daemon, &["shutting down: no new grants, waiters are answered"]);
            let successor = stage.start(&[]);
            stage.ledger.until_served(stage::CALLERS as usize);
            successor
        });
    }
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// SIGSTOP for three times to live. Renewals that wait in the socket count before anything ends, and so do those that come a moment
/// later; a lease that nobody renews ends all the same, later still.
///
/// Regression: after SIGSTOP for less than five seconds, leases ended whose renewals waited in the socket (found by SIGSTOP).
pub(super) fn stopped_for_three_ttls() {
    let (stage, daemon) = Stage::set(&[], &[]);
    for ttl in [1, 2] {
        stage.under_load(|| {
            let renewer = Renewer::start(&stage, ttl);
            renewer.assert_live();
            let acquire_request =
                |ttl: u64| json!({"pool": stage.pool, "fingerprint": "first", "ttl_seconds": ttl, "wait_seconds": 30});
            let (left, asleep) = (stage.api.lease(&acquire_request(ttl)), stage.api.lease(&acquire_request(2)));
            // The reconciler has looked at them by then.
            renewer.assert_live();
            let path = |lease: &Value| format!("/v1/leases/{}", lease["id"].as_str().unwrap());
            daemon.signal(Signal::SIGSTOP);
            // The stop is what is tested: it has to last.
            std::thread::sleep(Duration::from_millis(ttl * 3000 + 200));
            daemon.signal(Signal::SIGCONT);
            // With a suspended laptop holders sleep as well, and renew a moment after the daemon has looked.
            std::thread::sleep(Duration::from_millis(300));
            stage.api.post(&format!("{}/renew", path(&asleep)), &json!({})).expect(200);
            stage.api.release(&asleep);
            renewer.release();
            let path = path(&left);
            until("what nobody renews expires", || {
                let seen = stage.api.get(&path).expect(200);
                if seen["state"] == "expired" { Ok(()) } else { Err(seen.to_string()) }
            });
        });
    }
    assert!(daemon.log().contains("this process did not run for"), "{}", daemon.log());
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// As many idle connections as the daemon may have open files. It lives, says so, and serves again when they go.
pub(super) fn no_file_descriptors_left() {
    let (stage, daemon) = Stage::set(&[], &[]);
    let limit = |files: usize| {
        let (pid, files) = (daemon.pid().to_string(), format!("--nofile={files}:4096"));
        let done = Command::new("prlimit").args(["--pid", &pid, &files]).status().unwrap();
        assert!(done.success(), "prlimit (util-linux) sets the limit of a process that runs");
    };
    stage.under_load(|| {
        limit(daemon.open_files() + 3);
        let address = stage.api.url().replace("http://", "");
        let began = Instant::now();
        let mut idle = Vec::new();
        while began.elapsed() < Duration::from_secs(3) {
            // The kernel takes them into its queue, whether the daemon can or not.
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
