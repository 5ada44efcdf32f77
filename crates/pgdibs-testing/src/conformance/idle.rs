//! The cycle of the reconciler without timers: take a snapshot, plan, execute, until the plan is empty.

use pgdibs_core::backend::Backend;
use pgdibs_core::error::StepError;
use pgdibs_core::plan::{Step, plan};
use pgdibs_core::snapshot::PlannerContext;

/// A plan that is not empty after this many rounds is a bug.
const MAX_ROUNDS: usize = 1000;

/// Executes steps until the plan is empty, and returns the failed ones. Stale steps ([`StepError::Stale`]) are no failures.
///
/// # Panics
/// When the snapshot fails, or when the plan does not become empty; the message has the steps of the last two rounds.
pub async fn run_until_idle<B: Backend>(backend: &B, context: &PlannerContext) -> Vec<(Step, StepError)> {
    let mut failures = Vec::new();
    let mut before = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let snapshot = match backend.take_snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => panic!("the snapshot failed: {error}"),
        };
        let steps = plan(&snapshot, context);
        if steps.is_empty() {
            return failures;
        }
        let results = backend.execute(&steps).await;
        assert_eq!(results.len(), steps.len(), "each step has a result");
        for (step, result) in steps.iter().zip(results) {
            match result {
                Ok(()) | Err(StepError::Stale(_)) => {}
                Err(error) => failures.push((step.clone(), error)),
            }
        }
        before = vec![before.pop().unwrap_or_default(), steps];
    }
    panic!("still not idle after {MAX_ROUNDS} rounds; the last two planned {before:#?}; failures: {failures:#?}");
}
