//! What the reconciler saw and did: for `/v1/status` and `/readyz`, and, where people look for it, in the log.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pgdibs_core::error::StepError;
use pgdibs_core::plan::Step;
use pgdibs_core::template::Timestamp;

/// What the reconciler last saw and did, for `/v1/status` and `/readyz`.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Whether this daemon holds leadership.
    pub reconciling: bool,
    /// Why the server cannot be reached at present.
    pub unreachable: Option<String>,
    /// What people should know of pools, in words.
    pub warnings: BTreeSet<String>,
    /// Sessions for which drops wait, in words.
    pub held_up: BTreeSet<String>,
    /// Whether clones are not made for want of disk space.
    pub disk_is_short: bool,
    /// Directories that a crash in the middle of a clone left behind; `None` when we may not look.
    pub orphans: Option<Vec<u32>>,
    /// When the reconciler last planned anything.
    pub planned_at: Option<Timestamp>,
    /// The steps of that plan, in words.
    pub last_plan: Vec<String>,
    /// What became of the last steps, newest last.
    pub last_steps: VecDeque<Done>,
}

/// What became of one step.
#[derive(Debug, Clone)]
pub struct Done {
    /// The step, in words.
    pub step: String,
    /// How long it took, or the plan it was part of.
    pub took: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Steps that are remembered for `/v1/status`.
const REMEMBERED: usize = 50;

impl Report {
    fn note(&mut self, step: &Step, took: Duration, error: Option<String>) {
        if self.last_steps.len() >= REMEMBERED {
            self.last_steps.pop_front();
        }
        self.last_steps.push_back(Done { step: format!("{step:?}"), took, error });
    }
}

/// Logs what became of a step, here, where it is handled; its row says when a failed one is tried again.
pub(super) fn note(report: &Mutex<Report>, step: &Step, took: Duration, result: &Result<(), StepError>) {
    match result {
        Ok(()) => announce(step, took),
        Err(StepError::Stale(why)) => tracing::debug!(?step, why, "overtaken by events"),
        Err(StepError::Unavailable(why)) => tracing::warn!(?step, why, "the server went away"),
        Err(StepError::Failed(why)) => tracing::warn!(?step, why, "a step failed; it is tried again later"),
    }
    let error = result.as_ref().err().map(ToString::to_string);
    report.lock().unwrap_or_else(PoisonError::into_inner).note(step, took, error);
}

/// Steps that people look for in the log.
fn announce(step: &Step, took: Duration) {
    match step {
        Step::EndLease { lease, end, reason, .. } => {
            tracing::info!(lease.id = %lease, end = end.state().as_str(), reason, "ended a lease");
        }
        Step::RetireTemplate { template, reason } => {
            tracing::info!(template = template.0, %reason, "retired a template")
        }
        Step::FailBuild { template, reason } => tracing::warn!(template = template.0, reason, "a build was lost"),
        Step::Retire { database, reason } if reason.is_damage() => {
            tracing::warn!(database = database.0, %reason, "a database that nobody was given is retired; another takes its place");
        }
        Step::Adopt { database, oid } => tracing::info!(
            database = database.0,
            oid,
            "found a database whose creator died before it was done; it is dropped, and another is made"
        ),
        Step::Retire { database, reason } => tracing::debug!(database = database.0, %reason, "retired a database"),
        _ => tracing::debug!(?step, seconds = took.as_secs_f64(), "done"),
    }
}
