//! What the daemon counts and times for `GET /metrics`: counters and histograms since its start.
//!
//! The gauges beside them come from one snapshot for each scrape (`http/metrics.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgdibs_core::error::StepError;
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::lease::{Lease, LeaseState};
use pgdibs_core::plan::Step;
use pgdibs_core::snapshot::Snapshot;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of what takes from a millisecond to minutes.
const SHORT: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Upper bounds of what takes from a second to hours.
const LONG: [f64; 11] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14400.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the labels as Prometheus has them")]
enum GrantKind {
    warm,
    waited,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGrant {
    pool: String,
    kind: GrantKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEnd {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    route: String,
    method: &'static str,
    code: u16,
}

/// The counters and histograms.
pub struct Metrics {
    registry: Registry,
    wait: Histograms<OfPool>,
    hold: Histograms<OfPool>,
    reset: Histograms<OfPool>,
    build: Histograms<OfPool>,
    clone: Histogram,
    drop: Histogram,
    swap: Histogram,
    grants: Family<OfGrant, Counter>,
    ends: Family<OfEnd, Counter>,
    steps: Family<OfStep, Counter>,
    requests: Family<OfRequest, Counter>,
    late_renewals: Counter,
    /// Pools that have series, with the time of their last change.
    pools: Mutex<BTreeMap<String, Instant>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        fn short() -> Histogram {
            Histogram::new(SHORT)
        }
        fn long() -> Histogram {
            Histogram::new(LONG)
        }
        let mut registry = Registry::with_prefix("pgdibs");
        let (wait, reset) = (
            Histograms::new_with_constructor(short as fn() -> _),
            Histograms::new_with_constructor(short as fn() -> _),
        );
        let (hold, build) =
            (Histograms::new_with_constructor(long as fn() -> _), Histograms::new_with_constructor(long as fn() -> _));
        let metrics = Self {
            wait,
            hold,
            reset,
            build,
            clone: short(),
            drop: short(),
            swap: short(),
            grants: Family::default(),
            ends: Family::default(),
            steps: Family::default(),
            requests: Family::default(),
            late_renewals: Counter::default(),
            pools: Mutex::default(),
            registry: Registry::default(),
        };
        let seconds = || Unit::Seconds;
        registry.register_with_unit("wait", "Time from a request for a lease to its grant. When it is high, raise `warm`, `spares` or `max` of the pool", seconds(), metrics.wait.clone());
        registry.register_with_unit("hold", "Time that a lease was held. When it is high, tests keep databases that others wait for: release or reset sooner, or raise `max` of the pool", seconds(), metrics.hold.clone());
        registry.register_with_unit(
            "reset",
            "Time of a reset, with its wait for a spare. When it is high, raise `spares` of the pool",
            seconds(),
            metrics.reset.clone(),
        );
        registry.register_with_unit("build", "Time of a build, from its start until the template is ready. When it is high, build from a dump instead of migrations", seconds(), metrics.build.clone());
        registry.register_with_unit(
            "clone",
            "Time of a clone. When it is high, run `pgdibs doctor`: fsync = off and a smaller template help most",
            seconds(),
            metrics.clone.clone(),
        );
        registry.register_with_unit(
            "drop",
            "Time of a drop. When it is high, run `pgdibs doctor`: sessions in the middle of a COPY hold drops up",
            seconds(),
            metrics.drop.clone(),
        );
        registry.register_with_unit("swap", "Time of the message that returns, resets or fills slots. When it is high, the server is overloaded, or sessions of tests do not end", seconds(), metrics.swap.clone());
        registry.register(
            "grants",
            "Leases granted: at once (warm) or after a wait (waited). When many waited, raise `warm` of the pool",
            metrics.grants.clone(),
        );
        registry.register(
            "lease_ends",
            "Leases that ended. When many expired, test processes die without a release, or do not renew",
            metrics.ends.clone(),
        );
        registry.register(
            "steps",
            "Steps of the reconciler. When many failed, the log has the reason of each; stale ones are harmless",
            metrics.steps.clone(),
        );
        registry.register(
            "http_requests",
            "Requests answered. When codes of 500 and more rise, GET /readyz says why",
            metrics.requests.clone(),
        );
        registry.register("late_renewals", "Renewals of live leases that came after their time to live was over. When it rises, test processes or this daemon lack processor time; raise `ttl_seconds`", metrics.late_renewals.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Writes all of them in the OpenMetrics format, without the end mark.
    ///
    /// # Errors
    /// None but those of the formatter.
    pub fn encode(&self, out: &mut String) -> fmt::Result {
        encode_registry(out, &self.registry)
    }

    fn of_pool(&self, pool: &str) -> OfPool {
        self.pools.lock().insert(pool.to_owned(), Instant::now());
        OfPool { pool: pool.to_owned() }
    }

    /// New leases of one request, which had to wait or not.
    pub fn granted(&self, leases: &[Lease], has_waited: bool, waited: Duration) {
        let kind = if has_waited { GrantKind::waited } else { GrantKind::warm };
        for lease in leases {
            let of_pool = self.of_pool(lease.pool.as_str());
            self.wait.get_or_create(&of_pool).observe(waited.as_secs_f64());
            self.grants.get_or_create(&OfGrant { pool: of_pool.pool, kind }).inc();
        }
    }

    /// Something happened at this daemon.
    pub fn observe(&self, event: &Event) {
        let ended = |state: LeaseState| {
            self.ends.get_or_create(&OfEnd { reason: state.as_str() }).inc();
            self.observe_seconds(&self.hold, event);
        };
        match event.kind {
            EventKind::LeaseReleased => ended(LeaseState::Released),
            EventKind::LeaseExpired => ended(LeaseState::Expired),
            EventKind::LeaseRevoked => ended(LeaseState::Revoked),
            EventKind::LeaseRenewedLate => {
                self.late_renewals.inc();
            }
            EventKind::TemplateBuilt => self.observe_seconds(&self.build, event),
            _ => {}
        }
    }

    fn observe_seconds(&self, histograms: &Histograms<OfPool>, event: &Event) {
        if let (Some(pool), Some(seconds)) = (&event.pool, event.seconds) {
            histograms.get_or_create(&self.of_pool(pool.as_str())).observe(seconds);
        }
    }

    /// A lease was reset.
    pub fn was_reset(&self, lease: &Lease, took: Duration) {
        self.reset.get_or_create(&self.of_pool(lease.pool.as_str())).observe(took.as_secs_f64());
    }

    /// A step of the reconciler ended. Of steps that run together, `took` is the time of all.
    pub fn step(&self, step: &Step, took: Duration, result: &Result<(), StepError>) {
        let text = match result {
            Ok(()) => "ok",
            Err(StepError::Stale(_)) => "stale",
            Err(StepError::Unavailable(_)) => "unavailable",
            Err(StepError::Failed(_)) => "failed",
        };
        self.steps.get_or_create(&OfStep { kind: kind(step), result: text }).inc();
        if result.is_err() {
            return;
        }
        match step {
            Step::Clone { .. } => self.clone.observe(took.as_secs_f64()),
            Step::Drop { .. } => self.drop.observe(took.as_secs_f64()),
            Step::Return { .. } | Step::Reset { .. } | Step::Fill { .. } => self.swap.observe(took.as_secs_f64()),
            _ => {}
        }
    }

    /// A request was answered. `route` is one of the list of routes, and so bounded.
    pub fn answered(&self, route: &str, method: &'static str, code: u16) {
        self.requests.get_or_create(&OfRequest { route: route.to_owned(), method, code }).inc();
    }

    /// Removes the series of pools that are gone. `asked` is when the snapshot was asked for.
    pub fn forget_others(&self, snapshot: &Snapshot, asked: Instant) {
        let is_gone = |pool: &String, changed: &mut Instant| {
            *changed < asked && !snapshot.pools.iter().any(|present| present.name.as_str() == pool)
        };
        let gone: Vec<String> = self.pools.lock().extract_if(.., is_gone).map(|(pool, _)| pool).collect();
        for pool in gone {
            for kind in [GrantKind::warm, GrantKind::waited] {
                self.grants.remove(&OfGrant { pool: pool.clone(), kind });
            }
            let of_pool = OfPool { pool };
            for histograms in [&self.wait, &self.hold, &self.reset, &self.build] {
                histograms.remove(&of_pool);
            }
        }
    }
}

/// The label of a step.
fn kind(step: &Step) -> &'static str {
    match step {
        Step::EndLease { .. } => "end_lease",
        Step::Reset { .. } => "reset",
        Step::Return { .. } => "return",
        Step::Fence { .. } => "fence",
        Step::Fill { .. } => "fill",
        Step::Move { .. } => "move",
        Step::Retire { .. } => "retire",
        Step::NewDatabases { .. } => "new_databases",
        Step::Clone { .. } => "clone",
        Step::Drop { .. } => "drop",
        Step::Adopt { .. } => "adopt",
        Step::Forget { .. } => "forget",
        Step::CreateBuild { .. } => "create_build",
        Step::Seal { .. } => "seal",
        Step::FailBuild { .. } => "fail_build",
        Step::RetireTemplate { .. } => "retire_template",
        Step::DropTemplate { .. } => "drop_template",
        Step::ForgetPool { .. } => "forget_pool",
    }
}
