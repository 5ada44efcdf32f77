//! Steps without effect: their attempts count as failed, in the report and in their rows, and the next attempts are delayed.

use std::time::Duration;

use parking_lot::Mutex;
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::plan::Step;
use pgdibs_core::snapshot::{PlannerContext, Snapshot};
use pgdibs_core::watch::{EffectWatch, Ended, StepIdentity, Tick, WithoutEffect};
use tokio::time::Instant;

use super::backend::LeaderBackend;
use super::publish::StepEvents;
use super::state::{self, ReconcilerState};
use crate::events::Events;

/// Records the end of a step. A failed one is in its row, and one that found the server unreachable is tried again with the server.
pub(super) fn record_end(
    effects: &Mutex<EffectWatch>,
    identity: StepIdentity,
    result: &Result<(), StepError>,
    clock: Instant,
) {
    let ended = match result {
        Ok(()) => Ended::Done,
        Err(StepError::Stale(why)) => Ended::Stale(why.clone()),
        Err(StepError::Failed(_) | StepError::Unavailable(_)) => return,
    };
    effects.lock().ended(identity, ended, clock.elapsed());
}

fn explain(found: &WithoutEffect) -> String {
    let (attempts, seconds) = (found.attempts, found.pause.as_secs());
    let ended = match &found.ended {
        Ended::Done => "it reported success".to_owned(),
        Ended::Stale(why) => format!("it found that something had changed ({why})"),
    };
    format!(
        "the step had no effect: {ended}, but a later snapshot needs the same step; attempt {attempts}, the next one {seconds} s after it"
    )
}

/// Removes from a plan the steps whose last attempt had no effect and that are not due yet. The snapshot was taken at `began` or later.
pub(super) async fn delay_repeated(
    backend: &impl LeaderBackend,
    effects: &Mutex<EffectWatch>,
    (report, events): (&Mutex<ReconcilerState>, &Events),
    steps: &mut Vec<Step>,
    (snapshot, context): (&Snapshot, &PlannerContext),
    began: Tick,
) -> Result<(), Error> {
    let found = effects.lock().delay(steps, snapshot, context, began);
    for one in found {
        let why = explain(&one);
        // A stale step has met a row in another state than the plan; that row has no failure.
        if one.ended == Ended::Done {
            backend.record_failure(&one.step, &why).await?;
        }
        let result = Err(StepError::Failed(why));
        state::record(report, &one.step, Duration::ZERO, &result);
        StepEvents::of(&one.step, snapshot).publish(events, &one.step, Duration::ZERO, &result);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
