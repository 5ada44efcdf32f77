//! The soak: random faults over random load, one after the other, with every lease audited. `make soak` runs it.
//!
//! `SOAK_MINUTES` says for how long, `SOAK_SEED` repeats a run as far as that goes: the order of the faults, their parameters and
//! the choices of every caller come from the seed; what happens between processes does not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::mischief::{MISCHIEF, Mischief, Scene};
use crate::support::ledger::{Complaint, Deed};
use crate::support::{Cluster, DEADLINE, Place, Proxy, Session, Stage, contents, stage};

/// Between two audits with the callers at rest.
const AUDIT_EVERY: Duration = Duration::from_secs(45);
/// From the end of the load until the pool is full, after whatever was done to it.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// What was done and what came of it.
#[derive(Default)]
struct Figures {
    faults: BTreeMap<&'static str, usize>,
    recoveries: Vec<Duration>,
    audits: usize,
    leaks: Vec<String>,
    strangers: Vec<String>,
    orphans: u64,
}

impl Figures {
    /// The recovery time that this share of the faults did not exceed.
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

    fn report(&self, stage: &Stage, took: Duration) -> String {
        let complaints = stage.ledger.complaints();
        let count = |kind: fn(&Complaint) -> bool| complaints.iter().filter(|complaint| kind(complaint)).count();
        let deed = |deed| stage.ledger.count(deed);
        let kinds: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "{name:46}{value}").unwrap();
        line("seed", format!("{}, {:.1} minutes, {} audits", stage.seed, took.as_secs_f64() / 60.0, self.audits));
        line(
            "leases granted",
            format!(
                "{} ({} resets, {} kept, {} released, {} abandoned)",
                deed(Deed::Granted),
                deed(Deed::Reset),
                deed(Deed::Kept),
                deed(Deed::Released),
                deed(Deed::Abandoned)
            ),
        );
        line("faults", format!("{}: {}", self.faults.values().sum::<usize>(), kinds.join(", ")));
        line("dirty hand-outs", count(|c| matches!(c, Complaint::Dirty(_))).to_string());
        line("lost leases", count(|c| matches!(c, Complaint::Lost(_))).to_string());
        line("leaks", self.leaks.len().to_string());
        line("foreign databases touched", self.strangers.len().to_string());
        line("answers out of contract", count(|c| matches!(c, Complaint::Answer(_))).to_string());
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

/// A lease asked for after a fault, compared with the template, and given back: from then on the service is what it was.
fn until_recovered(stage: &Stage) -> Duration {
    let began = Instant::now();
    let acquire_request = json!({"pool": stage.pool, "fingerprint": "first", "run": format!("probe-{}", uuid::Uuid::new_v4()), "worker": "probe", "wait_seconds": 5});
    while began.elapsed() < DEADLINE {
        if let Ok(answer) = stage.api.try_call(pgdibs::Method::POST, "/v1/leases", Some(&acquire_request))
            && matches!(answer.status, 200 | 201)
            && let Ok(mut session) = Session::try_open(answer.body["url"].as_str().unwrap_or_default())
            && let Ok(seen) = contents::lines(&mut session, true)
        {
            if seen != stage.expected {
                let difference = contents::difference(&stage.expected, &seen);
                stage.ledger.complain(Complaint::Dirty(format!("the probe: {}\n{difference}", answer.body)));
            }
            let id = answer.body["id"].as_str().unwrap_or_default().to_owned();
            let _asked_again_by_nobody = stage.api.try_call(pgdibs::Method::DELETE, &format!("/v1/leases/{id}"), None);
            return began.elapsed();
        }
        // A client's pause between two tries.
        std::thread::sleep(Duration::from_millis(20));
    }
    stage.ledger.complain(Complaint::Answer(format!("nobody was served for {DEADLINE:?} after a fault")));
    began.elapsed()
}

/// Runs a check that fails by a panic; what it said, if it did.
fn said(check: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default())
}

#[test]
fn random_faults_over_random_load() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<f64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
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
    // One of each kind first, in an order of the seed's; then whatever comes.
    let mut coming: Vec<&Mischief> = Vec::new();
    while began.elapsed() < time
        && figures.leaks.is_empty()
        && figures.strangers.is_empty()
        && stage.ledger.complaints().is_empty()
    {
        let round = Instant::now();
        stage.load().during(stage::CALLERS, || {
            stage.ledger.until_served(4);
            while round.elapsed() < AUDIT_EVERY && began.elapsed() < time && stage.ledger.complaints().is_empty() {
                if coming.is_empty() {
                    coming = MISCHIEF.iter().collect();
                    coming.sort_by_cached_key(|_| random.random::<u64>());
                }
                let Some(next) = coming.pop() else { continue };
                println!("[{:6.1} s] {}", began.elapsed().as_secs_f64(), next.name);
                (next.act)(&mut scene);
                *figures.faults.entry(next.name).or_default() += 1;
                figures.recoveries.push(until_recovered(&stage));
                let calm = Duration::from_secs_f64(*[0.1, 0.5, 2.0].choose(&mut random).unwrap_or(&0.5));
                // Faults come at any distance from each other.
                std::thread::sleep(calm);
            }
        });
        scene.settle();
        let daemon = scene.daemon.as_ref().expect("a daemon");
        figures.leaks.extend(said(|| {
            stage.assert_back_to_rest(daemon, FULL_AGAIN);
        }));
        figures.strangers.extend(said(|| stage.assert_strangers_untouched()));
        figures.orphans = stage.orphans();
        figures.leaks.extend(said(|| stage.assert_orphans_are_told()));
        figures.audits += 1;
    }
    let report = figures.report(&stage, began.elapsed());
    println!("\n{report}");
    let complaints = stage.ledger.complaints();
    let clean = complaints.is_empty() && figures.leaks.is_empty() && figures.strangers.is_empty();
    assert!(
        clean,
        "{complaints:#?}\n{:#?}\n{:#?}\nrepeat it with SOAK_SEED={}",
        figures.leaks, figures.strangers, stage.seed
    );
    assert!(stage.ledger.count(Deed::Granted) > 20, "the callers hardly got anything: {report}");
    if let Some(daemon) = scene.daemon.take() {
        daemon.stop();
    }
}
