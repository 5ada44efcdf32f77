//! Reports of runs: where the time of a test session went, sent at its end and kept for each pool.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pgdibs_core::inputs::Inputs;
use pgdibs_core::request as domain;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::bounded::{BoundedInteger, BoundedList, BoundedMap, Label, PoolField, Seconds, Text};
use crate::time::rfc3339;

/// Seconds by phase. The plugin for pytest sends `total`, `start_up`, `import`, `database`, `template`, `reset`, `tests` and `idle`.
pub type PhaseSeconds = BoundedMap<Seconds, 40>;

/// The inputs of a fingerprint by name, as in `migrations/0042_orders.sql`, with a hash of each.
pub type FingerprintInputs = BoundedMap<Label, 1000>;

impl ToSchema for PhaseSeconds {
    fn name() -> Cow<'static, str> {
        "PhaseSeconds".into()
    }
}

impl ToSchema for FingerprintInputs {
    fn name() -> Cow<'static, str> {
        "FingerprintInputs".into()
    }
}

/// The inputs as core has them.
#[must_use]
pub fn inputs_of(inputs: FingerprintInputs) -> Inputs {
    inputs.into_map().into_iter().map(|(name, hash)| (name.into_string(), hash.into_string())).collect()
}

/// One worker of a run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerReport {
    /// Its name, as in its leases.
    pub worker: Label,
    /// The most memory that its process used, in MB of 1,000,000 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss_mb: Option<BoundedInteger<0, 1_000_000_000>>,
    /// The most connections to its databases at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<BoundedInteger<0, 1_000_000>>,
}

type WorkerReports = BoundedList<WorkerReport, 0, 1000>;

/// What a run says about itself at its end. Sent again, it replaces the earlier report.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunReportRequest {
    /// A pool that lists the run, besides those that the run announced or leased from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolField>,
    /// Free text about the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Text>,
    /// Where its time went.
    #[serde(default)]
    pub seconds: PhaseSeconds,
    /// Its workers.
    #[serde(default)]
    pub workers: WorkerReports,
    /// The inputs of its templates' fingerprint, for templates whose inputs the daemon does not know yet.
    #[serde(default, skip_serializing_if = "BoundedMap::is_empty")]
    pub fingerprint_inputs: FingerprintInputs,
}

/// The part of a report that the daemon keeps as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Figures {
    #[serde(default)]
    seconds: BTreeMap<String, f64>,
    #[serde(default)]
    workers: Vec<WorkerFigures>,
}

impl RunReportRequest {
    /// The report of the run with this name.
    #[must_use]
    pub fn into_run_report(self, run: Label) -> domain::RunReport {
        let workers = self.workers.into_vec().into_iter().map(|worker| WorkerFigures {
            worker: worker.worker.into_string(),
            peak_rss_mb: worker.peak_rss_mb.map(BoundedInteger::get),
            connections: worker.connections.map(BoundedInteger::get),
        });
        let seconds = self.seconds.into_map().into_iter().map(|(phase, seconds)| (phase.into_string(), seconds.get()));
        let figures = Figures { seconds: seconds.collect(), workers: workers.collect() };
        domain::RunReport {
            run: run.into_string(),
            pool: self.pool.map(|pool| pool.0),
            holder: self.holder.unwrap_or_default().into_string(),
            figures: serde_json::to_string(&figures).unwrap_or_else(|_| "{}".to_owned()),
            inputs: inputs_of(self.fingerprint_inputs),
        }
    }
}

/// Which runs are listed, in a query.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Those of this pool only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolField>,
}

/// Whether a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It has leases, or is announced.
    Live,
    /// It has reported, and has neither.
    Ended,
    /// A value that a newer daemon has added.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// One worker of a run, as it reported it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerFigures {
    /// Its name.
    pub worker: String,
    /// The most memory that its process used, in MB of 1,000,000 bytes.
    pub peak_rss_mb: Option<u64>,
    /// The most connections to its databases at once.
    pub connections: Option<u64>,
}

/// A run on one pool: a live one, or one of the last 200 of the pool that reported.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ListedRun {
    /// Its name.
    pub run: String,
    /// The pool.
    pub pool: String,
    /// Whether it goes on.
    pub state: RunState,
    /// Free text about it.
    pub holder: String,
    /// How many leases of the pool it holds.
    pub held: u32,
    /// When the first lease that it holds was granted.
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    /// When it reported.
    #[schema(format = DateTime)]
    pub reported_at: Option<String>,
    /// Where its time went, by phase; empty until it reports.
    pub seconds: BTreeMap<String, f64>,
    /// Its workers; empty until it reports.
    pub workers: Vec<WorkerFigures>,
}

impl ListedRun {
    /// A run that has reported.
    #[must_use]
    pub fn reported(report: domain::ReportedRun) -> Self {
        let figures: Figures = serde_json::from_str(&report.figures).unwrap_or_default();
        Self {
            reported_at: Some(rfc3339(report.reported_at)),
            seconds: figures.seconds,
            workers: figures.workers,
            state: RunState::Ended,
            ..Self::live(report.run, report.pool.to_string(), report.holder)
        }
    }

    /// A run that goes on and has not reported.
    #[must_use]
    pub fn live(run: String, pool: String, holder: String) -> Self {
        Self {
            run,
            pool,
            state: RunState::Live,
            holder,
            held: 0,
            started_at: None,
            reported_at: None,
            seconds: BTreeMap::new(),
            workers: Vec::new(),
        }
    }
}

/// Several runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Runs {
    /// Live ones, then those that reported last.
    pub runs: Vec<ListedRun>,
}
