//! Detects that this process did not run: stopped by SIGSTOP, suspended with its machine, or starved of the processor.
//!
//! A stalled process reads no renewals, however short the stall is beside the reconciler's own pauses. A snapshot right after it must not
//! count that time against any lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Interval of the ticks.
const TICK: Duration = Duration::from_millis(200);

/// A tick that is this late counts as a stall. Clients renew at a third of a TTL, and the shortest TTL is a second: a shorter stall leaves
/// them time.
const STALL: Duration = Duration::from_millis(500);

/// Counts ticks while there are leases, and reports the longest pause between two of them. Without leases nothing expires, and five ticks a
/// second would be most of what a daemon at rest costs.
#[derive(Debug, Clone)]
pub(super) struct StallDetector {
    began: Instant,
    /// Milliseconds from the beginning to the last tick.
    last: Arc<AtomicU64>,
    /// The longest pause between two ticks since the last report, in milliseconds.
    longest: Arc<AtomicU64>,
    has_leases: Arc<AtomicBool>,
    begins: Arc<Notify>,
}

impl StallDetector {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            last: Arc::default(),
            longest: Arc::default(),
            has_leases: Arc::default(),
            begins: Arc::default(),
        }
    }

    /// Ticks until `stopping`.
    pub(super) fn spawn(&self, tasks: &TaskTracker, stopping: CancellationToken) {
        let stall_detector = self.clone();
        tasks.spawn(async move {
            let pause = async || {
                if !stall_detector.has_leases.load(Ordering::Relaxed) {
                    stall_detector.begins.notified().await;
                }
                tokio::time::sleep(TICK).await;
            };
            while stopping.run_until_cancelled(pause()).await.is_some() {
                let now = stall_detector.now();
                let pause = now.saturating_sub(stall_detector.last.swap(now, Ordering::Relaxed));
                stall_detector.longest.fetch_max(pause, Ordering::Relaxed);
            }
        });
    }

    /// Whether there are leases from now on.
    pub(super) fn watch(&self, has_leases: bool) {
        if has_leases && !self.has_leases.swap(has_leases, Ordering::Relaxed) {
            self.last.store(self.now(), Ordering::Relaxed);
            self.longest.store(0, Ordering::Relaxed);
            self.begins.notify_one();
        }
        self.has_leases.store(has_leases, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long the process stalled since the last call, if it did and there were leases. A stall that is just ending counts, and only once.
    pub(super) fn stalled_for(&self) -> Option<Duration> {
        if !self.has_leases.load(Ordering::Relaxed) {
            return None;
        }
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
    fn missing_tick_is_a_stall_before_the_next_tick() {
        let stall_detector = StallDetector::new();
        stall_detector.watch(true);
        assert_eq!(stall_detector.stalled_for(), None);
        let late = StallDetector {
            began: Instant::now().checked_sub(Duration::from_secs(3)).unwrap(),
            ..stall_detector.clone()
        };
        assert!(
            late.stalled_for().is_some_and(|stalled_for| stalled_for >= Duration::from_secs(3)),
            "no tick for three seconds"
        );
        assert_eq!(late.stalled_for(), None, "reported once, although no tick has followed");
        late.longest.store(700, Ordering::Relaxed);
        assert_eq!(late.stalled_for(), Some(Duration::from_millis(700)));
        assert_eq!(late.stalled_for(), None, "reported once");
    }

    /// It does not tick at rest, so the time without leases is no stall.
    #[test]
    fn time_without_leases_is_no_stall() {
        let detector = StallDetector::new();
        let late =
            StallDetector { began: Instant::now().checked_sub(Duration::from_secs(3)).unwrap(), ..detector.clone() };
        assert_eq!(late.stalled_for(), None, "no lease");
        late.longest.store(700, Ordering::Relaxed);
        late.watch(true);
        assert_eq!(late.stalled_for(), None, "the first lease");
    }
}
