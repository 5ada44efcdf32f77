//! The daemon's status for `/readyz` and `/v1/status`, answered from memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use pgdibs_api::level::API_LEVEL;
use pgdibs_api::status::{Daemon, Finding, FindingSeverity, Reconciler};
use pgdibs_api::time::rfc3339;
use pgdibs_core::template::Timestamp;
use pgdibs_postgres::doctor::{Examination, Severity};
use pgdibs_postgres::facts::ServerFacts;

use super::builds::Builds;
use crate::events::now;
use crate::http::{ServerStatus, StatusSource};
use crate::metrics::Metrics;
use crate::reconciler::ReconcilerState;
use crate::service::RefusedPools;

/// The state that the daemon's tasks report.
pub(super) struct Status {
    started_at: Timestamp,
    started: Instant,
    /// The errors of configured pools that could not be applied.
    refused_pools: Arc<RefusedPools>,
    metrics: Arc<Metrics>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Why the daemon has no server yet.
    reason: Option<String>,
    instance: String,
    version: Option<String>,
    findings: Vec<Finding>,
    /// Why the logins of pools cannot log in.
    refused_logins: BTreeMap<String, String>,
    report: Option<Arc<Mutex<ReconcilerState>>>,
    builds: Option<Arc<Builds>>,
}

impl Status {
    pub(super) fn new() -> Self {
        let known = Known { reason: Some("it connects to its Postgres server".to_owned()), ..Known::default() };
        Self {
            started_at: now(),
            started: Instant::now(),
            refused_pools: Arc::default(),
            metrics: Arc::default(),
            known: Mutex::new(known),
        }
    }

    /// Why configured pools could not be applied; their callers are told.
    pub(super) fn refused_pools(&self) -> &Arc<RefusedPools> {
        &self.refused_pools
    }

    /// What the daemon's parts count.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// Sets the reason why the server is not up.
    pub(super) fn reason(&self, reason: String) {
        self.known().reason = Some(reason);
    }

    /// The server is up.
    pub(super) fn server_up(&self, facts: &ServerFacts, instance: i32) {
        let mut known = self.known();
        known.reason = None;
        known.version = Some(facts.version.clone());
        known.instance = instance.to_string();
    }

    /// What was found on the server.
    pub(super) fn set_findings(&self, report: &Examination) {
        let severity = |severity| match severity {
            Severity::Note => FindingSeverity::Note,
            Severity::Warning => FindingSeverity::Warning,
            Severity::Error => FindingSeverity::Error,
        };
        let findings = report.findings.iter().map(|finding| Finding {
            check: finding.check.to_owned(),
            severity: severity(finding.severity),
            title: finding.text.clone(),
            fix: finding.fix.as_ref().map(|fix| fix.trim_start().to_owned()),
        });
        self.known().findings = findings.collect();
    }

    /// The server is up again.
    pub(super) fn server_restarted(&self) {
        self.known().reason = None;
    }

    /// Forgets the refused logins of the other pools.
    pub(super) fn keep_refused_logins(&self, exists: impl Fn(&str) -> bool) {
        self.known().refused_logins.retain(|pool, _| exists(pool));
    }

    /// The outcome of the trial login of a pool; returns whether it has changed.
    pub(super) fn set_refused_login(&self, pool: &str, why: Option<String>) -> bool {
        let mut known = self.known();
        let before = match why.clone() {
            Some(why) => known.refused_logins.insert(pool.to_owned(), why),
            None => known.refused_logins.remove(pool),
        };
        before != why
    }

    pub(super) fn set_report(&self, report: Arc<Mutex<ReconcilerState>>) {
        self.known().report = Some(report);
    }

    pub(super) fn set_builds(&self, builds: Arc<Builds>) {
        self.known().builds = Some(builds);
    }

    /// Whether the reconciler cannot reach the server.
    pub(super) fn is_unreachable(&self) -> bool {
        self.reconciler_state().unreachable.is_some()
    }

    fn reconciler_state(&self) -> ReconcilerState {
        let report = self.known().report.clone();
        report.map(|report| report.lock().clone()).unwrap_or_default()
    }
}

impl StatusSource for Status {
    fn daemon(&self) -> Daemon {
        let reasons = self.unready();
        let reconciling = self.reconciler_state().reconciling;
        Daemon {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_level: API_LEVEL,
            instance: self.known().instance.clone(),
            started_at: rfc3339(self.started_at),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            reconciling,
            ready: reasons.is_empty(),
            reasons,
        }
    }

    fn server(&self) -> ServerStatus {
        let ReconcilerState { warnings, drop_blockers, shortages, orphans, .. } = self.reconciler_state();
        let known = self.known();
        ServerStatus {
            version: known.version.clone(),
            warnings: warnings.into_iter().chain(drop_blockers).chain(shortages.delays).collect(),
            findings: known.findings.clone(),
            orphans,
        }
    }

    fn reconciler(&self) -> Reconciler {
        let state = self.reconciler_state();
        Reconciler { planned_at: state.planned_at.map(rfc3339), plan: state.last_plan, report: state.last_steps.into() }
    }

    fn delays(&self) -> Vec<String> {
        self.reconciler_state().shortages.delays
    }

    fn unready(&self) -> Vec<String> {
        let builds = self.known().builds.clone();
        let mut reasons: Vec<String> = self.known().reason.iter().cloned().collect();
        let ReconcilerState { unreachable, shortages, unready, .. } = self.reconciler_state();
        reasons.extend(unreachable);
        reasons.extend(shortages.stops);
        reasons.extend(unready);
        reasons.extend(self.refused_pools.sentences());
        reasons.extend(self.known().refused_logins.iter().map(|(pool, why)| format!("pool {pool}: {why}")));
        if let Some(builds) = builds {
            reasons.extend(builds.reasons());
        }
        reasons
    }
}
