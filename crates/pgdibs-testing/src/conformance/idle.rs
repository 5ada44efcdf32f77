//! The loop of the reconciler without its timers: gather, plan, execute, until there is nothing to do.

use pgdibs_core::backend::Backend;
use pgdibs_core::error::StepError;
use pgdibs_core::plan::{Step, plan};
use pgdibs_core::snapshot::PlannerContext;

/// Rounds after which a plan that never becomes empty is a bug.
const MOST_ROUNDS: usize = 1000;

/// Runs until no step is due, and returns the steps that failed on the way. Steps that found the world changed
/// ([`StepError::Stale`]) are no failures.
///
/// # Panics
/// When the world does not answer, or when steps keep coming; the message names those of the last two rounds.
pub async fn run_until_idle<W: Backend>(backend: &W, context: &PlannerContext) -> Vec<(Step, StepError)> {
    let mut failures = Vec::new();
    let mut before = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let snapshot = match backend.gather().await {
            Ok(snapshot) => snapshot,
            Err(error) => panic!("the world cannot be looked at: {error}"),
        };
        let steps = plan(&snapshot, context);
        if steps.is_empty() {
            return failures;
        }
        let results = backend.execute(&steps).await;
        assert_eq!(results.len(), steps.len(), "each step has an answer");
        for (step, result) in steps.iter().zip(results) {
            match result {
                Ok(()) | Err(StepError::Stale(_)) => {}
                Err(error) => failures.push((step.clone(), error)),
            }
        }
        before = vec![before.pop().unwrap_or_default(), steps];
    }
    panic!("still not idle after {MOST_ROUNDS} rounds; the last two planned {before:#?}; failures: {failures:#?}");
}
