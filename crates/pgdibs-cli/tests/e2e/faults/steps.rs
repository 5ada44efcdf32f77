//! `kill -9` of the daemon at every failpoint: the loop covers all of them, including new ones.

use std::time::{Duration, Instant};

use pgdibs::Method;
use pgdibs_failpoint::Failpoint;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, DEADLINE, Daemon, Session, Stage, stage, until};

/// The next daemon fills the pool within this time. It tries to become the leader once a second, and its clones share two processors
/// with eight callers.
const FULL_AGAIN: Duration = Duration::from_secs(20);

/// Triggers failpoints that the callers alone do not trigger. Errors are ignored, because the daemon is dead or held.
pub(super) struct Provoker {
    api: Api,
    pool: String,
    postgres: String,
    catalog: String,
}

impl Provoker {
    pub(super) fn of(stage: &Stage) -> Self {
        let url = |database| stage.cluster.superuser_url(database);
        Self { api: stage.api.clone(), pool: stage.pool.clone(), postgres: url("postgres"), catalog: url("pgdibs") }
    }

    /// One round with unique names.
    pub(super) fn trigger(&self, point: Failpoint, round: u32) {
        match point.name().split_once(':').map_or("", |(what, _)| what) {
            "build" if point == Failpoint::BuildFailed => {
                let path = format!("/v1/pools/{}/templates/silent-{round}", self.pool);
                let _ = self.api.try_call(Method::PUT, &path, Some(&json!({"wait_seconds": 1})));
                let silent = "update templates set build_heard_at = now() - interval '61 s' where state = 'building'";
                let _ = Session::open(&self.catalog).try_run(silent);
            }
            "build" | "seal" => self.build_and_drop(point, round, false),
            "template" => self.build_and_drop(point, round, point == Failpoint::TemplateRetired),
            // Surplus spares retire. They are closed, but in another way than the databases of ended leases.
            "retire" => self.change_spares(),
            "drop" if point == Failpoint::DropClosed => self.change_spares(),
            "move" => self.empty_a_low_slot(),
            // The row of a spare that was dropped externally is deleted. The spare may have moved on, so this tries several.
            "forget" => {
                let spare =
                    Session::open(&self.catalog).text("select name from databases where state = 'spare' limit 1");
                let _ = Session::open(&self.postgres).try_run(&format!("drop database \"{spare}\""));
            }
            _ => {}
        }
    }

    fn change_spares(&self) {
        for spares in [0, stage::SPARES] {
            let path = format!("/v1/pools/{}", self.pool);
            let _ = self.api.try_call(Method::PUT, &path, Some(&json!({"spares": spares})));
        }
    }

    /// The pool in which the lowest slot becomes empty.
    fn pool_of_moves(pool: &str) -> String {
        format!("{pool}_m")
    }

    /// Beside callers that wait, nothing moves. So this happens in a pool of its own: one database is leased, another is ready in slot 1, and
    /// slot 0 becomes empty.
    fn empty_a_low_slot(&self) {
        let pool = Self::pool_of_moves(&self.pool);
        let call = |method: Method, path: &str, body: &Value| {
            let answer = self.api.try_call(method, path, Some(body)).ok();
            answer.filter(|answer| answer.status < 300).map(|answer| answer.body)
        };
        let settings = json!({"warm": 1, "max": 3, "spares": 0});
        let template = format!("/v1/pools/{pool}/templates/first");
        let Some(_) = call(Method::PUT, &format!("/v1/pools/{pool}"), &settings) else { return };
        let Some(put) = call(Method::PUT, &template, &json!({"holder": "a test", "wait_seconds": 5})) else { return };
        if let Some(token) = put["build"]["token"].as_str() {
            let _ = call(Method::POST, &format!("{template}/seal"), &json!({"token": token}));
        }
        let Some(lease) = call(Method::POST, "/v1/leases", &json!({"pool": pool, "wait_seconds": 5})) else { return };
        until("another database is ready", || {
            match self.api.try_call(Method::GET, &format!("/v1/pools/{pool}"), None) {
                Ok(answer) if answer.status == 200 && answer.body["counts"]["ready"] == 0 => {
                    Err(answer.body.to_string())
                }
                _ => Ok(()),
            }
        });
        let id = lease["id"].as_str().unwrap_or_default();
        let _ = call(Method::DELETE, &format!("/v1/leases/{id}"), &Value::Null);
        // Another lease would take the database before it moves.
        let moved = format!("select count(*) from databases where pool = '{pool}' and state = 'ready' and slot = 0");
        until("the database moves", || match self.api.try_call(Method::GET, &format!("/v1/pools/{pool}"), None) {
            Ok(answer) if answer.status == 200 && Session::open(&self.catalog).text(&moved) == "0" => {
                Err(answer.body.to_string())
            }
            _ => Ok(()),
        });
    }

    /// Builds, seals and drops a template; with `externally` it is dropped outside pgdibs.
    fn build_and_drop(&self, point: Failpoint, round: u32, externally: bool) {
        let path = format!("/v1/pools/{}/templates/{}-{round}", self.pool, point.name());
        let call = |method: Method, path: &str, body: &Value| {
            let answer = self.api.try_call(method, path, Some(body)).ok();
            answer.filter(|answer| answer.status < 300).map(|answer| answer.body)
        };
        let Some(put) = call(Method::PUT, &path, &json!({"holder": "a test", "wait_seconds": 5})) else { return };
        let Some(url) = put["build"]["url"].as_str() else { return };
        if let Ok(mut builder) = Session::try_open(url) {
            let _ = builder.try_run("create table t (n int)");
        }
        let token = json!({"token": put["build"]["token"]});
        let Some(sealed) = call(Method::POST, &format!("{path}/seal"), &token) else { return };
        if externally {
            let name = sealed["database"].as_str().unwrap_or_default();
            let mut boss = Session::open(&self.postgres);
            let _ = boss.try_run(&format!("alter database \"{name}\" is_template false"));
            let _ = boss.try_run(&format!("drop database \"{name}\""));
            // The next snapshot detects the drop, unless the daemon has died or lost its server.
            until("the drop is detected", || match self.api.try_call(Method::GET, &path, None) {
                Ok(answer) if answer.status == 200 && answer.body["state"] == "ready" => Err(answer.body.to_string()),
                _ => Ok(()),
            });
        }
        let _ = call(Method::DELETE, &path, &Value::Null);
    }
}

/// Waits until the armed daemon dies at its failpoint under load.
#[track_caller]
fn until_killed(stage: &Stage, daemon: &mut Daemon, point: Failpoint) {
    let (began, provoker) = (Instant::now(), Provoker::of(stage));
    let mut round = 0;
    while daemon.has_ended().is_none() {
        stage.ledger.assert_no_violations();
        assert!(began.elapsed() < DEADLINE, "the daemon did not reach {}: {}", point.name(), daemon.log());
        provoker.trigger(point, round);
        round += 1;
    }
    assert_eq!(daemon.has_ended().and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status)), Some(9));
}

/// Starts the next daemon with an armed failpoint.
#[track_caller]
pub(super) fn armed(stage: &Stage, point: Failpoint, action: &str) -> Daemon {
    if point == Failpoint::AdoptRecorded {
        // A daemon that died before leaves unrecorded databases.
        let mut daemon = stage.start(&[("PGDIBS_TEST_FAILPOINT", "clone:created=kill")]);
        until_killed(stage, &mut daemon, Failpoint::CloneCreated);
    }
    stage.start(&[("PGDIBS_TEST_FAILPOINT", &format!("{}={action}", point.name()))])
}

/// Removes everything that was triggered except the first template.
#[track_caller]
pub(super) fn clean_up(stage: &Stage) {
    let templates = stage.api.pool(&stage.pool)["templates"].clone();
    for template in templates.as_array().unwrap() {
        let fingerprint = template["fingerprint"].as_str().unwrap();
        if fingerprint != "first" && template["state"] == "ready" {
            let path = format!("/v1/pools/{}/templates/{fingerprint}", stage.pool);
            let answer = stage.api.call(Method::DELETE, &path, None);
            assert!(matches!(answer.status, 204 | 404), "{}", answer.body);
        }
    }
    let pool = Provoker::pool_of_moves(&stage.pool);
    let answer = stage.api.call(Method::DELETE, &format!("/v1/pools/{pool}?force=true"), None);
    assert!(matches!(answer.status, 204 | 404), "{}", answer.body);
    let left = format!("select count(*) from pools where name = '{pool}'");
    until("the pool of the moves is dropped", || match stage.catalog().text(&left).as_str() {
        "0" => Ok(()),
        left => Err(left.to_owned()),
    });
    stage.catalog().run("update templates set build_heard_at = now() - interval '61 s' where state = 'building'");
    stage.api.put(&format!("/v1/pools/{}", stage.pool), &json!({"spares": stage::SPARES})).expect(200);
}

/// Kills the daemon at each failpoint under load, and audits after each.
pub(super) fn kill_at_each(points: &[Failpoint]) {
    let (stage, mut daemon) = Stage::set(&[], &[]);
    for &point in points {
        let began = Instant::now();
        let died;
        (daemon, died) = stage.load().during(stage::CALLERS, || {
            daemon.kill();
            let mut dying = armed(&stage, point, "kill");
            until_killed(&stage, &mut dying, point);
            let died = Instant::now();
            let successor = stage.start(&[]);
            stage.ledger.until_served(stage::CALLERS as usize);
            (successor, died)
        });
        clean_up(&stage);
        let audit = stage.audit(&daemon, FULL_AGAIN);
        let (until_died, since) = (died - began, died.elapsed());
        println!(
            "{:24} died after {until_died:.1?}, full {:.1?} after the load, {since:.1?} in all",
            point.name(),
            audit.settled
        );
    }
    daemon.stop();
}
