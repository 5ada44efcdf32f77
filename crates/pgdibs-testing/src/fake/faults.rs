//! Fault injection: the points of a step at which a test can let the step fail or the daemon die.

use pgdibs_core::error::StepError;
use pgdibs_core::plan::Step;

/// A point within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPoint {
    /// Before the step.
    Before,
    /// After a part that no rollback undoes: DDL outside a transaction, or a row committed before the DDL.
    Halfway,
    /// After the step; only its result can be lost.
    After,
}

/// Which steps report success and change nothing.
pub(super) type Ineffective = Box<dyn FnMut(&Step) -> bool + Send>;

/// The fault at a point; `None` continues. The row records [`StepError::Failed`], like an error of Postgres, but not
/// [`StepError::Unavailable`], like the death of the daemon or the server.
pub(super) type Faults = Box<dyn FnMut(&Step, FaultPoint) -> Option<StepError> + Send>;
