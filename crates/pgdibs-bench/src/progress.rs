//! Progress on standard error, with the time left.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::Instant;

use crate::args::{Effort, Group};

/// Writes a line for each stage.
pub(crate) struct Progress {
    /// When the present part began, and the seconds that it and the following ones take.
    state: RefCell<(Instant, f64)>,
}

impl Progress {
    pub(crate) fn new(groups: &[Group], effort: Effort) -> Self {
        let seconds = groups.iter().map(|group| effort.seconds(*group)).sum();
        Self { state: RefCell::new((Instant::now(), seconds)) }
    }

    /// The part `before` has ended.
    pub(crate) fn end(&self, before: Group, effort: Effort) {
        let mut state = self.state.borrow_mut();
        *state = (Instant::now(), state.1 - effort.seconds(before));
    }

    pub(crate) fn stage(&self, what: &str) {
        let (began, seconds) = *self.state.borrow();
        let left = (seconds - began.elapsed().as_secs_f64()).max(0.0);
        let left = if left < 100.0 { format!("{left:.0} s") } else { format!("{:.0} min", left / 60.0) };
        let _closed = writeln!(std::io::stderr(), "{what} (about {left} left)");
    }
}
