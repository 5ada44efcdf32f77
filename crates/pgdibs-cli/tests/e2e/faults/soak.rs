//! The soak test: a sequence of random faults under random load, with audits. `make soak` runs it.
//!
//! `SOAK_MINUTES` sets its duration. `SOAK_SEED` repeats the order of the faults, their parameters and the choices of every caller,
//! but not the timing between processes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::random_faults::{RANDOM_FAULTS, RandomFault, Scene};
use pgdibs_testing::end_to_end::ledger::{Operation, Violation};
use pgdibs_testing::end_to_end::{Cluster, DEADLINE, Place, Proxy, Session, Stage, contents, stage};

/// The time between two audits with idle callers.
const AUDIT_EVERY: Duration = Duration::from_secs(45);
/// The maximum time from the end of the load to a full pool.
const FULL_AGAIN: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Figures {
    faults: BTreeMap<&'static str, usize>,
    recoveries: Vec<Duration>,
    audits: usize,
    leaks: Vec<String>,
    foreign: Vec<String>,
    orphans: u64,
}

impl Figures {
    /// The quantile of the recovery times.
    fn recovery(&self, share: f64) -> f64 {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(at).map_or(0.0, Duration::as_secs_f64)
    }

    fn summary(&self, stage: &Stage, took: Duration) -> String {
        let violations = stage.ledger.violations();
        let count = |kind: fn(&Violation) -> bool| violations.iter().filter(|violation| kind(violation)).count();
        let operation = |operation| stage.ledger.count(operation);
        let kinds: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "{name:46}{value}").unwrap();
        line("seed", format!("{}, {:.1} minutes, {} audits", stage.seed, took.as_secs_f64() / 60.0, self.audits));
        line(
            "leases granted",
            format!(
                "{} ({} resets, {} kept, {} released, {} abandoned)",
                operation(Operation::Granted),
                operation(Operation::Reset),
                operation(Operation::Kept),
                operation(Operation::Released),
                operation(Operation::Abandoned)
            ),
        );
        line("faults", format!("{}: {}", self.faults.values().sum::<usize>(), kinds.join(", ")));
        line("leases of dirty databases", count(|c| matches!(c, Violation::Dirty(_))).to_string());
        line("lost leases", count(|c| matches!(c, Violation::Lost(_))).to_string());
        line("leaks", self.leaks.len().to_string());
        line("foreign databases touched", self.foreign.len().to_string());
        line("answers out of contract", count(|c| matches!(c, Violation::Answer(_))).to_string());
        line("directories that crashes of Postgres left", format!("{}, each of them in /v1/status", self.orphans));
        line(
            "recovery",
            format!(
                "p50 {:.1} s, p99 {:.1} s, most {:.1} s",
                self.recovery(0.5),
                self.recovery(0.99),
                self.recovery(1.0)
            ),
        );
        text
    }
}

/// Acquires, compares and releases a lease after a fault; returns the time until this succeeds.
fn until_recovered(stage: &Stage) -> Duration {
    let began = Instant::now();
    let acquire_request = json!({"pool": stage.pool, "fingerprint": "first", "run": format!("probe-{}", uuid::Uuid::new_v4()), "worker": "probe", "wait_seconds": 5});
    while began.elapsed() < DEADLINE {
        if let Ok(answer) = stage.api.try_call(pgdibs::Method::POST, "/v1/leases", Some(&acquire_request))
            && matches!(answer.status, 200 | 201)
            && let Ok(mut session) = Session::try_open(answer.body["url"].as_str().unwrap_or_default())
            && let Ok(seen) = contents::describe(&mut session, true)
        {
            if seen != stage.expected {
                let difference = contents::difference(&stage.expected, &seen);
                stage.ledger.record_violation(Violation::Dirty(format!("the probe: {}\n{difference}", answer.body)));
            }
            let id = answer.body["id"].as_str().unwrap_or_default().to_owned();
            let _not_repeated = stage.api.try_call(pgdibs::Method::DELETE, &format!("/v1/leases/{id}"), None);
            return began.elapsed();
        }
        // The pause of a client between two attempts.
        std::thread::sleep(Duration::from_millis(20));
    }
    stage.ledger.record_violation(Violation::Answer(format!("no caller was served for {DEADLINE:?} after a fault")));
    began.elapsed()
}

/// The panic message of a check, if it fails.
fn failure_of(check: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default())
}

#[test]
fn random_faults_over_random_load() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<f64>().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    let time = Duration::from_secs_f64(number("SOAK_MINUTES").unwrap_or(1.0) * 60.0);
    let cluster = Cluster::start(&["max_prepared_transactions=10", "wal_level=logical", "max_connections=100"]);
    let proxy = Proxy::to(cluster.port());
    let place = Place::on(&cluster.url_by(proxy.port()));
    let direct = format!("127.0.0.1:{}", cluster.port());
    let (mut stage, daemon) = Stage::with(cluster, place, &[("PGDIBS_ADVERTISE", &direct)], "");
    stage.pause = 1.2;
    println!("SOAK_SEED={}", stage.seed);
    let mut random = StdRng::seed_from_u64(stage.seed);
    let began = Instant::now();
    let mut figures = Figures::default();
    let mut scene =
        Scene { stage: &stage, daemon: Some(daemon), proxy: &proxy, random: StdRng::seed_from_u64(stage.seed ^ 1) };
    // First one fault of each kind in random order, then random kinds.
    let mut coming: Vec<&RandomFault> = Vec::new();
    while began.elapsed() < time
        && figures.leaks.is_empty()
        && figures.foreign.is_empty()
        && stage.ledger.violations().is_empty()
    {
        let round = Instant::now();
        stage.load().during(stage::CALLERS, || {
            stage.ledger.until_served(4);
            while round.elapsed() < AUDIT_EVERY && began.elapsed() < time && stage.ledger.violations().is_empty() {
                if coming.is_empty() {
                    coming = RANDOM_FAULTS.iter().collect();
                    coming.sort_by_cached_key(|_| random.random::<u64>());
                }
                let Some(next) = coming.pop() else { continue };
                println!("[{:6.1} s] {}", began.elapsed().as_secs_f64(), next.name);
                (next.act)(&mut scene);
                *figures.faults.entry(next.name).or_default() += 1;
                figures.recoveries.push(until_recovered(&stage));
                let calm = Duration::from_secs_f64(*[0.1, 0.5, 2.0].choose(&mut random).unwrap_or(&0.5));
                // The time between faults is random.
                std::thread::sleep(calm);
            }
        });
        scene.settle();
        let daemon = scene.daemon.as_ref().expect("a daemon");
        figures.leaks.extend(failure_of(|| {
            stage.assert_idle_and_clean(daemon, FULL_AGAIN);
        }));
        figures.foreign.extend(failure_of(|| stage.assert_foreign_databases_unchanged()));
        figures.orphans = stage.orphans();
        figures.leaks.extend(failure_of(|| stage.assert_orphans_are_reported()));
        figures.audits += 1;
    }
    let report = figures.summary(&stage, began.elapsed());
    println!("\n{report}");
    let violations = stage.ledger.violations();
    let clean = violations.is_empty() && figures.leaks.is_empty() && figures.foreign.is_empty();
    assert!(
        clean,
        "{violations:#?}\n{:#?}\n{:#?}\nrepeat it with SOAK_SEED={}",
        figures.leaks, figures.foreign, stage.seed
    );
    assert!(stage.ledger.count(Operation::Granted) > 20, "the callers had too few leases: {report}");
    if let Some(daemon) = scene.daemon.take() {
        daemon.stop();
    }
}
