//! What the reconciler found and did: for `/v1/status`, `/readyz` and the log.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use pgdibs_api::status::StepReport;
use pgdibs_core::error::StepError;
use pgdibs_core::plan::Step;
use pgdibs_core::template::Timestamp;

use crate::service::shortages::Shortages;

/// What the reconciler last found and did.
#[derive(Debug, Clone, Default)]
pub struct ReconcilerState {
    /// Whether this daemon is the leader.
    pub reconciling: bool,
    /// Why the server is unreachable.
    pub unreachable: Option<String>,
    /// Warnings about pools, in words.
    pub warnings: BTreeSet<String>,
    /// Templates that are built and of which no clone can be made, in words.
    pub unready: BTreeSet<String>,
    /// Sessions that block drops, in words.
    pub drop_blockers: BTreeSet<String>,
    /// Whether a lack of disk space stops cloning.
    pub disk_is_short: bool,
    /// Why callers get no database, or wait, though the server answers.
    pub shortages: Shortages,
    /// Directories that a crash in the middle of a clone left behind; `None` when the daemon may not list them.
    pub orphans: Option<Vec<u32>>,
    /// When the reconciler last planned anything.
    pub planned_at: Option<Timestamp>,
    /// The steps of that plan, in words.
    pub last_plan: Vec<String>,
    /// The last steps and their results, newest last.
    pub last_steps: VecDeque<StepReport>,
}

/// How many steps `/v1/status` lists.
const LISTED: usize = 50;

impl ReconcilerState {
    fn add(&mut self, step: &Step, took: Duration, error: Option<String>) {
        if self.last_steps.len() >= LISTED {
            self.last_steps.pop_front();
        }
        self.last_steps.push_back(StepReport { step: format!("{step:?}"), took_seconds: took.as_secs_f64(), error });
    }
}

/// Adds the result of a step to the report, and logs what is no event. The row of a failed one says when it is tried again.
pub(super) fn record(report: &Mutex<ReconcilerState>, step: &Step, took: Duration, result: &Result<(), StepError>) {
    match result {
        Ok(()) => log_success(step, took),
        Err(StepError::Stale(why)) => tracing::debug!(?step, why, "skipped a step: its row has changed since the plan"),
        Err(StepError::Unavailable(why)) => tracing::warn!(?step, why, "a step found the server unreachable"),
        Err(StepError::Failed(why)) => tracing::debug!(?step, why, "recorded a failed step in its row"),
    }
    let error = result.as_ref().err().map(ToString::to_string);
    report.lock().add(step, took, error);
}

/// Logs a step that succeeded.
fn log_success(step: &Step, took: Duration) {
    match step {
        Step::Retire { database, reason } if reason.is_damage() => {
            tracing::warn!(database = database.0, %reason, "retired a database that was never leased");
        }
        Step::Adopt { database, oid } => {
            tracing::info!(database = database.0, oid, "dropping half-created database left by a crashed daemon")
        }
        Step::Retire { database, reason } => tracing::debug!(database = database.0, %reason, "retired a database"),
        _ => tracing::debug!(?step, seconds = took.as_secs_f64(), "executed a step"),
    }
}
