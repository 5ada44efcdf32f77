//! What the daemon says of itself: for `/readyz` and `/v1/status`, answered without waiting for anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pgdibs_core::template::Timestamp;
use pgdibs_postgres::facts::ServerFacts;

use super::builds::Builds;
use crate::http::{DaemonStatus, ReconcilerStatus, ReportLine, ServerStatus, StatusSource};
use crate::reconciler::Report;

/// Gathered from those who know, as the daemon comes up.
pub(super) struct Status {
    started_at: Timestamp,
    started: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What the daemon waits for while it has no server.
    reason: Option<String>,
    instance: String,
    version: Option<String>,
    warnings: Vec<String>,
    /// Configured pools that could not be made, and why.
    pools: BTreeMap<String, String>,
    report: Option<Arc<Mutex<Report>>>,
    builds: Option<Arc<Builds>>,
}

impl Status {
    pub(super) fn new() -> Self {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let known = Known { reason: Some("starting".to_owned()), ..Known::default() };
        Self {
            started_at: Timestamp(i64::try_from(micros).unwrap_or(i64::MAX)),
            started: Instant::now(),
            known: Mutex::new(known),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server is not up because of this.
    pub(super) fn reason(&self, reason: String) {
        self.known().reason = Some(reason);
    }

    /// The server is up and this is what it is.
    pub(super) fn server_is(&self, facts: &ServerFacts, instance: i32) {
        let mut known = self.known();
        known.reason = None;
        known.version = Some(facts.version.clone());
        known.instance = instance.to_string();
        known.warnings = facts.warnings();
    }

    /// The embedded server is up again.
    pub(super) fn server_is_back(&self) {
        self.known().reason = None;
    }

    pub(super) fn pool_trouble(&self, pool: &str, trouble: Option<String>) {
        let mut known = self.known();
        match trouble {
            Some(trouble) => known.pools.insert(pool.to_owned(), trouble),
            None => known.pools.remove(pool),
        };
    }

    pub(super) fn follow(&self, report: Arc<Mutex<Report>>) {
        self.known().report = Some(report);
    }

    pub(super) fn builds_are(&self, builds: Arc<Builds>) {
        self.known().builds = Some(builds);
    }

    /// Whether the reconciler cannot reach the server.
    pub(super) fn is_unreachable(&self) -> bool {
        self.report().unreachable.is_some()
    }

    fn report(&self) -> Report {
        let report = self.known().report.clone();
        report.map(|report| report.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }
}

fn line(done: crate::reconciler::StepReport) -> ReportLine {
    ReportLine { step: done.step, took: done.took, error: done.error }
}

impl StatusSource for Status {
    fn daemon(&self) -> DaemonStatus {
        // Taken one after the other: a guard inside the expression below would live to its end, and the report needs the lock.
        let instance = self.known().instance.clone();
        let reconciling = self.report().reconciling;
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance,
            started_at: self.started_at,
            uptime: self.started.elapsed(),
            reconciling,
        }
    }

    fn server(&self) -> ServerStatus {
        let Report { warnings, drop_blockers, orphans, .. } = self.report();
        let known = self.known();
        ServerStatus {
            version: known.version.clone(),
            warnings: known.warnings.iter().cloned().chain(warnings).chain(drop_blockers).collect(),
            orphans,
        }
    }

    fn reconciler(&self) -> ReconcilerStatus {
        let report = self.report();
        ReconcilerStatus {
            planned_at: report.planned_at,
            plan: report.last_plan,
            report: report.last_steps.into_iter().map(line).collect(),
        }
    }

    fn unready(&self) -> Vec<String> {
        let builds = self.known().builds.clone();
        let mut reasons: Vec<String> = self.known().reason.iter().cloned().collect();
        reasons.extend(self.report().unreachable.map(|why| format!("the server is not available: {why}")));
        reasons.extend(self.known().pools.iter().map(|(pool, trouble)| format!("pool {pool}: {trouble}")));
        if let Some(builds) = builds {
            reasons.extend(builds.reasons());
        }
        reasons
    }
}
