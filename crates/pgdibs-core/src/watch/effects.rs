//! The effect watch: finds steps that end without an error and change nothing, so that the planner returns them again.

use std::collections::HashMap;
use std::time::Duration;

use crate::plan::Step;
use crate::snapshot::{PlannerContext, Snapshot};

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What identifies a step from one plan to the next: two steps with the same identity mean that the first had no effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StepIdentity {
    step: Step,
    /// What differs in the snapshot when the same step is right again. For `NewDatabases`, which adds rows: the highest number of a row of
    /// the template. For `DropTemplate`, which drops the database and, when no database of the template is left, the row: the oid.
    progress: Option<i64>,
}

impl StepIdentity {
    /// The identity of a step that was planned from `snapshot`.
    #[must_use]
    pub fn of(step: &Step, snapshot: &Snapshot) -> Self {
        let mut step = step.clone();
        // The reason names the seconds since the last renewal.
        if let Step::EndLease { reason, .. } = &mut step {
            reason.clear();
        }
        let progress = match &step {
            Step::NewDatabases { template, .. } => {
                snapshot.databases.iter().filter(|d| d.template == *template).map(|d| d.id.0).max()
            }
            Step::DropTemplate { template } => {
                snapshot.template(*template).and_then(|template| template.oid).map(i64::from)
            }
            _ => None,
        };
        Self { step, progress }
    }
}

/// How a step ended that has not failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It reported success.
    Done,
    /// It found that the catalog or the server has changed since the plan; the text says what.
    Stale(String),
}

/// A step without effect: the planner has returned it again from a snapshot taken after its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithoutEffect {
    /// The step.
    pub step: Step,
    /// How its last attempt ended.
    pub ended: Ended,
    /// Attempts without effect so far.
    pub attempts: u32,
    /// The pause before the next attempt, counted from the end of the last one.
    pub pause: Duration,
}

#[derive(Debug)]
struct Attempt {
    at: Duration,
    ended: Ended,
    attempts: u32,
    /// Whether a later snapshot has shown that it had no effect.
    is_counted: bool,
}

impl Attempt {
    fn pause(&self) -> Duration {
        let seconds = 1_u64.checked_shl(self.attempts.saturating_sub(1)).unwrap_or(u64::MAX);
        Duration::from_secs(seconds).min(LONGEST_PAUSE)
    }
}

/// Remembers the steps that ended, and delays those that had no effect: 1 s, 2 s, 4 s, up to a minute.
///
/// A failed step is delayed by its row. A step that changes nothing has no such row: without this watch its end would be the reason for
/// the next cycle, which plans it again, for ever.
#[derive(Debug, Default)]
pub struct EffectWatch {
    attempts: HashMap<StepIdentity, Attempt>,
}

impl EffectWatch {
    /// Records the end of a step at `now`.
    pub fn ended(&mut self, step: StepIdentity, ended: Ended, now: Duration) {
        let attempts = self.attempts.get(&step).map_or(0, |attempt| attempt.attempts);
        self.attempts.insert(step, Attempt { at: now, ended, attempts, is_counted: false });
    }

    /// When the first step may run again that had no effect.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let counted = self.attempts.values().filter(|attempt| attempt.is_counted);
        counted.map(|attempt| attempt.at.saturating_add(attempt.pause())).min()
    }

    /// Removes from the plan of a snapshot, taken at `began` or later, the steps that have to wait. Returns those that have turned out to
    /// have had no effect, each once per attempt.
    pub fn delay(
        &mut self,
        steps: &mut Vec<Step>,
        snapshot: &Snapshot,
        context: &PlannerContext,
        began: Duration,
    ) -> Vec<WithoutEffect> {
        let mut found = Vec::new();
        let mut planned = HashMap::new();
        steps.retain(|step| {
            if self.attempts.is_empty() {
                return true;
            }
            let identity = StepIdentity::of(step, snapshot);
            let Some(mut attempt) = self.attempts.remove(&identity) else { return true };
            // Otherwise it ended while the snapshot was taken, which may not show the effect; its end leads to another snapshot.
            let is_later = attempt.at <= began;
            if is_later && !attempt.is_counted {
                attempt.is_counted = true;
                attempt.attempts = attempt.attempts.saturating_add(1);
                found.push(WithoutEffect {
                    step: step.clone(),
                    ended: attempt.ended.clone(),
                    attempts: attempt.attempts,
                    pause: attempt.pause(),
                });
            }
            let is_due = is_later && began.saturating_sub(attempt.at) >= attempt.pause();
            planned.insert(identity, attempt);
            is_due
        });
        // The planner returns no step on what another step works on.
        let is_busy = |step: &Step| {
            step.database().is_some_and(|id| context.busy_databases.contains(&id))
                || step.template().is_some_and(|id| context.busy_templates.contains(&id))
        };
        // A step that the planner does not return any more had an effect.
        self.attempts.retain(|identity, attempt| attempt.at > began || is_busy(&identity.step));
        self.attempts.extend(planned);
        found
    }
}
