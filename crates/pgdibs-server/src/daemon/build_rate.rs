//! Bounds how often the daemon builds the template of one pool: inputs that change all the time must not keep the server busy.

use std::time::{Duration, Instant};

/// So many builds may begin at once, as when someone saves a migration again and again.
const BURST: u32 = 5;

/// After the burst, a build may begin at this interval.
pub(super) const INTERVAL: Duration = Duration::from_secs(15);

/// The rate of one pool (a generic cell rate algorithm).
#[derive(Debug, Default)]
pub(super) struct BuildRate {
    /// When the burst is available again in full.
    full_at: Option<Instant>,
}

impl BuildRate {
    /// How long the next build has to wait.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let ahead = self.full_at.map_or(Duration::ZERO, |full| full.saturating_duration_since(now));
        ahead.saturating_sub(INTERVAL * (BURST - 1))
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |full| full.max(now)) + INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a database with ten writes a second was copied every two seconds.
    #[test]
    fn builds_are_bounded_after_a_burst() {
        let (begin, mut rate) = (Instant::now(), BuildRate::default());
        let mut builds = 0;
        for second in 0..=60 {
            let now = begin + Duration::from_secs(second);
            if rate.wait(now).is_zero() {
                rate.start(now);
                builds += 1;
            }
        }
        assert_eq!(builds, 9, "five at once, then one each 15 s");
        assert_eq!(rate.wait(begin + Duration::from_secs(60)), INTERVAL);
        assert_eq!(rate.wait(begin + Duration::from_secs(200)), Duration::ZERO);
    }
}
