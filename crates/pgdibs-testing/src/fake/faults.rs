//! Faults: the points of a step at which a test may let it fail or let the daemon die.

use pgdibs_core::error::StepError;
use pgdibs_core::plan::Step;

/// A point within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Nothing has been done.
    Before,
    /// Part of the work is done and will not be undone: DDL that no transaction covers, or the row before the act.
    Halfway,
    /// Everything is done; only the answer can still get lost.
    After,
}

/// What happens at a point: `None` goes on. [`StepError::Failed`] is recorded in the row as Postgres's refusal would be;
/// [`StepError::Unavailable`] is not recorded, as when the daemon or the server dies there.
pub(super) type Faults = Box<dyn FnMut(&Step, Point) -> Option<StepError> + Send>;
