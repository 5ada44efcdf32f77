//! The last quarter of an hour in buckets, for the lines of the page: leases, waits, clones.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pgdibs_api::status::HistoryBucket;
use pgdibs_core::event::{Event, EventKind};

/// The time of one bucket.
const BUCKET: Duration = Duration::from_secs(15);

/// Buckets of a quarter of an hour.
const BUCKETS: usize = 60;

/// Times of one kind that a bucket remembers until it is over, the last ones.
const SAMPLES: usize = 4096;

/// Times of one kind in one bucket.
#[derive(Debug, Default)]
struct Samples {
    times: Vec<f64>,
    count: usize,
}

impl Samples {
    fn add(&mut self, seconds: f64) {
        if self.times.len() < SAMPLES {
            self.times.push(seconds);
        } else if let Some(place) = self.times.get_mut(self.count % SAMPLES) {
            *place = seconds;
        }
        self.count += 1;
    }

    /// The time that this share of them does not exceed.
    fn quantile(&self, hundredths: usize) -> Option<f64> {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        let rank = (times.len() * hundredths).div_ceil(100).saturating_sub(1);
        times.get(rank).copied()
    }
}

#[derive(Debug, Default)]
struct Current {
    waits: Samples,
    clones: Samples,
}

impl Current {
    fn bucket(&self) -> HistoryBucket {
        HistoryBucket {
            grants: self.waits.count as u64,
            wait_p95_seconds: self.waits.quantile(95),
            clone_p50_seconds: self.clones.quantile(50),
        }
    }
}

/// The buckets that are over, and the one that runs.
#[derive(Debug)]
pub(super) struct History {
    over: VecDeque<HistoryBucket>,
    current: Current,
    /// When the current bucket began.
    began: Instant,
}

impl History {
    pub(super) fn starting(now: Instant) -> Self {
        Self { over: VecDeque::new(), current: Current::default(), began: now }
    }

    pub(super) fn add(&mut self, event: &Event, now: Instant) {
        self.advance(now);
        let seconds = event.seconds.unwrap_or(0.0);
        match event.kind {
            EventKind::LeaseGranted => self.current.waits.add(seconds),
            EventKind::DatabaseCloned => self.current.clones.add(seconds),
            _ => {}
        }
    }

    /// Closes the buckets whose time is over.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        let count = usize::try_from(passed.as_secs() / BUCKET.as_secs()).unwrap_or(usize::MAX);
        for _ in 0..count.min(BUCKETS) {
            self.over.push_back(std::mem::take(&mut self.current).bucket());
            if self.over.len() >= BUCKETS {
                self.over.pop_front();
            }
        }
        self.began += BUCKET * u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Oldest first; the last one still runs.
    pub(super) fn buckets(&mut self, now: Instant) -> Vec<HistoryBucket> {
        self.advance(now);
        self.over.iter().cloned().chain([self.current.bucket()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_the_counts_and_quantiles_of_their_time() {
        let start = Instant::now();
        let mut history = History::starting(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        for milliseconds in 1..=100 {
            history.add(&Event::new(EventKind::LeaseGranted).taking(Duration::from_millis(milliseconds)), at(1));
        }
        for milliseconds in [30, 10, 20] {
            history.add(&Event::new(EventKind::DatabaseCloned).taking(Duration::from_millis(milliseconds)), at(14));
        }
        history.add(&Event::new(EventKind::RunEnded), at(31));
        let empty = HistoryBucket { grants: 0, wait_p95_seconds: None, clone_p50_seconds: None };
        let first = HistoryBucket { grants: 100, wait_p95_seconds: Some(0.095), clone_p50_seconds: Some(0.02) };
        assert_eq!(history.buckets(at(44)), [first.clone(), empty.clone(), empty.clone()]);
        let quarter = history.buckets(at(15 * 60 - 1));
        assert_eq!((quarter.len(), &quarter[0]), (60, &first), "the whole of it");
        assert_eq!(history.buckets(at(15 * 60)), vec![empty.clone(); 60], "it is over");
        assert_eq!(history.buckets(at(1_000_000)), vec![empty; 60]);
    }

    #[test]
    fn bucket_remembers_a_bounded_number_of_times() {
        let start = Instant::now();
        let mut history = History::starting(start);
        for milliseconds in 0..2 * SAMPLES as u64 {
            history.add(&Event::new(EventKind::LeaseGranted).taking(Duration::from_millis(milliseconds)), start);
        }
        assert_eq!(history.current.waits.times.len(), SAMPLES);
        assert_eq!(history.buckets(start)[0].grants, 2 * SAMPLES as u64);
        assert!(history.buckets(start)[0].wait_p95_seconds > Some(SAMPLES as f64 / 1000.0), "of the last ones");
    }
}
