//! How long the measurements may take, and how long they will.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Interpreter,
    Imports,
    Collection,
    CollectionWithoutCoverage,
    SmallFile,
    AllTests,
    SampleWithoutCoverage,
    AtOnce(usize),
}

impl Step {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Interpreter => "interpreter start".to_owned(),
            Self::Imports => "imports".to_owned(),
            Self::Collection => "collection".to_owned(),
            Self::CollectionWithoutCoverage => "collection without coverage".to_owned(),
            Self::SmallFile => "one small test file".to_owned(),
            Self::AllTests => "durations of all tests".to_owned(),
            Self::SampleWithoutCoverage => "tests without coverage".to_owned(),
            Self::AtOnce(0) => "a sample of the tests in one process".to_owned(),
            Self::AtOnce(1) => "1 worker".to_owned(),
            Self::AtOnce(count) => format!("{count} processes at once"),
        }
    }
}

/// The deadline of all measurements, the one of each run, and the seconds of the runs so far.
#[derive(Debug)]
pub(crate) struct Budget {
    end: Option<Instant>,
    timeout: Duration,
    took: HashMap<Step, f64>,
}

/// What is kept for the last run to be ended and for the report.
const RESERVE: Duration = Duration::from_secs(5);

impl Budget {
    pub(crate) fn new(total: Option<Duration>, timeout: Duration) -> Self {
        Self { end: total.map(|total| Instant::now() + total.saturating_sub(RESERVE)), timeout, took: HashMap::new() }
    }

    /// The seconds that are left; `None` without a deadline.
    pub(crate) fn left(&self) -> Option<f64> {
        self.end.map(|end| end.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// How long the next run may take.
    pub(crate) fn limit(&self) -> Duration {
        self.left().map_or(self.timeout, |left| self.timeout.min(Duration::from_secs_f64(left)))
    }

    pub(crate) fn add(&mut self, step: Step, seconds: f64) {
        self.took.insert(step, seconds);
    }

    /// What a step will take: as long as last time, or `guess`.
    pub(crate) fn estimate(&self, step: Step, guess: f64) -> f64 {
        self.took.get(&step).copied().unwrap_or(guess)
    }

    /// Whether there is time for a step that takes so long.
    pub(crate) fn allows(&self, seconds: f64) -> bool {
        self.left().is_none_or(|left| seconds * 1.1 < left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_allows_what_fits() {
        let mut budget = Budget::new(Some(Duration::from_secs(15)), Duration::from_secs(600));
        assert!(budget.allows(5.0) && !budget.allows(20.0));
        assert!(budget.limit() <= Duration::from_secs(10));
        budget.add(Step::Imports, 3.0);
        assert_eq!((budget.estimate(Step::Imports, 1.0), budget.estimate(Step::Collection, 1.0)), (3.0, 1.0));
        assert!(Budget::new(None, Duration::from_secs(1)).allows(1e9));
    }
}
