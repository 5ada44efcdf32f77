//! Faults of the server: it stops, crashes, is killed, or has no connections left.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::readiness::Readiness;
use crate::support::renewer::Renewer;
use crate::support::{Daemon, Session, Stage, signal, stage, until};

/// From the moment the server answers again until the daemon says that it is ready.
const READY_AGAIN: Duration = Duration::from_secs(5);
/// From the end of the load until the pool is full.
const FULL_AGAIN: Duration = Duration::from_secs(20);
/// How long it stays down: long enough for everybody to notice.
const DOWN: Duration = Duration::from_secs(4);

/// A server that goes down under load and comes up again.
fn goes_down(how: impl Fn(&Stage)) {
    let (stage, daemon) = Stage::set(&[], &[]);
    let (readiness, (down, up, answers)) = Readiness::during(&stage.api, || {
        stage.under_load(|| {
            // Its renewals are not taken for longer than its time to live.
            let renewer = Renewer::start(&stage, 1);
            // Its holder renews late, when the daemon has looked at the server again. Less than the outage, and longer than its beginning.
            let late = stage
                .api
                .lease(&json!({"pool": stage.pool, "fingerprint": "first", "ttl_seconds": 3, "wait_seconds": 30}));
            // The reconciler has looked at both by then.
            renewer.assert_live();
            how(&stage);
            let down = Instant::now();
            hold(DOWN);
            assert_eq!(stage.api.get("/livez").status, 200);
            let up = Instant::now();
            stage.cluster.up();
            let answers = Instant::now();
            until("the daemon is ready again", || match stage.api.get("/readyz") {
                answer if answer.status == 200 => Ok(()),
                answer => Err(answer.body.to_string()),
            });
            hold(Duration::from_secs(1));
            let path = format!("/v1/leases/{}/renew", late["id"].as_str().unwrap());
            stage.api.post(&path, &json!({})).expect(200);
            stage.api.release(&late);
            renewer.release();
            (down, up, answers)
        })
    });
    readiness.assert_unready_between(down, up);
    let ready = readiness.ready_after(answers);
    assert!(ready.is_some_and(|after| after < READY_AGAIN), "ready {ready:?} after the server answered");
    assert_said_once(&daemon, &["the server is unreachable", "the server is back"]);
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// A fault lasts; nothing is waited for.
fn hold(time: Duration) {
    // What is tested is what happens meanwhile, in the other threads.
    std::thread::sleep(time);
}

#[track_caller]
pub(super) fn assert_said_once(daemon: &Daemon, said: &[&str]) {
    let log = daemon.log();
    for sentence in said {
        assert_eq!(log.matches(sentence).count(), 1, "`{sentence}`: {log}");
    }
}

pub(super) fn an_immediate_stop() {
    goes_down(|stage| stage.cluster.crash());
}

pub(super) fn a_fast_stop() {
    goes_down(|stage| stage.cluster.stop());
}

pub(super) fn a_killed_postmaster() {
    goes_down(|stage| stage.cluster.kill_postmaster());
}

/// All sessions vanish at once, and the server recovers by itself within a moment; in the middle of a clone it leaves a directory.
pub(super) fn a_killed_backend_in_mid_clone() {
    let (stage, mut daemon) = Stage::set_bulky(&[], &[]);
    let mut left = 0;
    for _ in 0..10 {
        stage.load().during(stage::CALLERS, || {
            stage.until_in_mid_clone();
            let mut boss = stage.cluster.superuser("postgres");
            let cloning =
                "select pid from pg_stat_activity where query like 'create database%' and state = 'active' limit 1";
            if let Ok(pid) = boss.text(cloning).parse() {
                signal(pid, Signal::SIGKILL);
            }
            until("the server has recovered", || {
                Session::try_open(&stage.cluster.url()).map(drop).map_err(|error| error.to_string())
            });
            daemon.until_ready();
            stage.ledger.until_served(stage::CALLERS as usize);
        });
        left = stage.audit(&daemon, FULL_AGAIN).orphans;
        if left > 0 {
            break;
        }
    }
    assert!(left > 0, "ten crashes, and none in the middle of a clone");
    stage.assert_orphans_are_told();
    daemon.stop();
}

/// Others take every connection that the server has for them. Who is connected goes on, and renewals are taken. Then the daemon loses
/// those by which it serves requests, again and again, while it reconciles on: nobody is told anything but to try again, and no lease
/// ends for renewals that could not be taken.
///
/// Regression: a lease ended while its renewal waited for a connection to the server (found by others had taken the
/// connections, on a busy machine).
pub(super) fn no_connections_left() {
    let (stage, daemon) = Stage::set(&["max_connections=70"], &[]);
    stage.cluster.superuser("postgres").run("create role hog login password 'h'");
    let url = stage.cluster.url_of("hog", "h", "postgres");
    stage.under_load(|| {
        let renewer = Renewer::start(&stage, 1);
        let mut boss = stage.cluster.superuser("postgres");
        let mut hogs = Vec::new();
        // Whenever one comes free, it is taken as well.
        let mut take_all = |ended: &str| {
            let began = Instant::now();
            while began.elapsed() < DOWN {
                boss.run(&format!(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{ended}'"
                ));
                match Session::try_open(&url) {
                    Ok(session) => hogs.push(session),
                    Err(_) => hold(Duration::from_millis(20)),
                }
            }
            hogs.len()
        };
        let taken = take_all("of nobody");
        assert!(taken > 10, "{taken} connections were taken");
        stage.write_steadily();
        renewer.assert_live();
        take_all("pgdibs");
        drop(hogs);
        renewer.assert_live();
        renewer.release();
    });
    assert_eq!(
        stage.api.get("/v1/leases?state=ended").expect(200)["leases"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|l| l["state"] == json!("revoked"))
            .count(),
        0
    );
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}
