//! Faults of the server: stop, crash, kill, and no free connections.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use pgdibs_testing::end_to_end::readiness::Readiness;
use pgdibs_testing::end_to_end::renewer::Renewer;
use pgdibs_testing::end_to_end::{Daemon, Session, Stage, signal, stage, until};

/// The maximum time from the server's first answer to the daemon's readiness.
const READY_AGAIN: Duration = Duration::from_secs(5);
/// The maximum time from the end of the load to a full pool.
const FULL_AGAIN: Duration = Duration::from_secs(20);
/// The duration of the outage, long enough for every part to detect it.
const DOWN: Duration = Duration::from_secs(4);

/// The server stops under load and starts again.
fn goes_down(how: impl Fn(&Stage)) {
    let (stage, daemon) = Stage::set(&[], &[]);
    let (readiness, (down, up, answers)) = Readiness::during(&stage.api, || {
        stage.under_load(|| {
            // Its renewals fail for longer than its TTL.
            let renewer = Renewer::start(&stage, 1);
            // Its holder renews late, after the daemon's first snapshot. The TTL is shorter than the outage and longer than its detection.
            let late = stage
                .api
                .lease(&json!({"pool": stage.pool, "fingerprint": "first", "ttl_seconds": 3, "wait_seconds": 30}));
            // The reconciler has both in a snapshot by then.
            renewer.assert_live();
            how(&stage);
            let down = Instant::now();
            hold(DOWN);
            assert_eq!(stage.api.get("/livez").status, 200);
            let up = Instant::now();
            stage.cluster.start_again();
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
    assert_logged_once(&daemon, &["the server is unreachable", "the server is back"]);
    stage.audit(&daemon, FULL_AGAIN);
    daemon.stop();
}

/// The duration of a fault.
fn hold(time: Duration) {
    // The test observes the other threads during this time.
    std::thread::sleep(time);
}

#[track_caller]
pub(super) fn assert_logged_once(daemon: &Daemon, lines: &[&str]) {
    let log = daemon.log();
    for sentence in lines {
        assert_eq!(log.matches(sentence).count(), 1, "`{sentence}`: {log}");
    }
}

pub(super) fn immediate_stop() {
    goes_down(|stage| stage.cluster.crash());
}

pub(super) fn fast_stop() {
    goes_down(|stage| stage.cluster.stop());
}

pub(super) fn killed_postmaster() {
    goes_down(|stage| stage.cluster.kill_postmaster());
}

/// The kill of a backend ends all sessions, and the server recovers; during a clone it leaves a directory.
pub(super) fn killed_backend_during_clone() {
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
    assert!(left > 0, "none of ten crashes hit a clone");
    stage.assert_orphans_are_reported();
    daemon.stop();
}

/// Other clients use all free connections of the server; existing sessions continue and renewals succeed. Then the daemon repeatedly
/// loses the connections of its requests while it still reconciles: requests only get retryable errors, and no lease ends because of
/// failed renewals.
///
/// Regression: a lease expired while its renewal waited for a connection to the server (found by this test, on a busy machine).
pub(super) fn no_connections_left() {
    let (stage, daemon) = Stage::set(&["max_connections=70"], &[]);
    stage.cluster.superuser("postgres").run("create role hog login password 'h'");
    let url = stage.cluster.url_of("hog", "h", "postgres");
    stage.under_load(|| {
        let renewer = Renewer::start(&stage, 1);
        let mut boss = stage.cluster.superuser("postgres");
        let mut hogs = Vec::new();
        // Every connection that becomes free is used as well.
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
        let taken = take_all("without user");
        assert!(taken > 10, "{taken} connections were taken");
        stage.write_to_held_lease();
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
