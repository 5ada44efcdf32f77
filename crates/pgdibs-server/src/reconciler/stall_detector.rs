//! Whether this process was asleep: stopped by SIGSTOP, suspended with its machine, or starved of the processor.
//!
//! Whoever sleeps hears no renewals, however short the sleep is beside the reconciler's own pauses. A look that comes right after it
//! must not count the time for anybody's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between two beats.
const TICK: Duration = Duration::from_millis(100);

/// A beat that is this late tells of a sleep. Clients renew at a third of a TTL, and the shortest TTL is a second: what is shorter
/// than this leaves them time.
const STALL: Duration = Duration::from_millis(500);

/// A pulse, felt by looking.
#[derive(Debug, Clone)]
pub(super) struct StallDetector {
    began: Instant,
    /// Milliseconds from the beginning to the last beat.
    last: Arc<AtomicU64>,
    /// The longest pause between two beats that nobody has asked for yet, in milliseconds.
    longest: Arc<AtomicU64>,
}

impl StallDetector {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last: Arc::default(), longest: Arc::default() }
    }

    /// Beats until `stopping`.
    pub(super) fn spawn(&self, tasks: &TaskTracker, stopping: CancellationToken) {
        let stall_detector = self.clone();
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = tokio::time::sleep(TICK) => {}
                }
                let now = stall_detector.now();
                let pause = now.saturating_sub(stall_detector.last.swap(now, Ordering::Relaxed));
                stall_detector.longest.fetch_max(pause, Ordering::Relaxed);
            }
        });
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long the process slept since the last question, if it did; a sleep from which it is just waking counts, and only once.
    pub(super) fn stalled_for(&self) -> Option<Duration> {
        let now = self.now();
        let waking = now.saturating_sub(self.last.swap(now, Ordering::Relaxed));
        let longest = self.longest.swap(0, Ordering::Relaxed).max(waking);
        Some(Duration::from_millis(longest)).filter(|pause| *pause >= STALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_that_is_missing_is_a_sleep_also_before_the_next_one() {
        let stall_detector = StallDetector::new();
        assert_eq!(stall_detector.stalled_for(), None);
        let late = StallDetector {
            began: Instant::now().checked_sub(Duration::from_secs(3)).unwrap(),
            ..stall_detector.clone()
        };
        assert!(
            late.stalled_for().is_some_and(|stalled_for| stalled_for >= Duration::from_secs(3)),
            "nobody has beaten for three seconds"
        );
        assert_eq!(late.stalled_for(), None, "it is told once, though nobody has beaten yet");
        late.longest.store(700, Ordering::Relaxed);
        assert_eq!(late.stalled_for(), Some(Duration::from_millis(700)));
        assert_eq!(late.stalled_for(), None, "it is told once");
    }
}
