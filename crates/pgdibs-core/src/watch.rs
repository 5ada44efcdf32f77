//! Watches: what the reconciler remembers between two looks. Losing it (a restart) only ever delays an expiry or a shrink.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::lease::{Lease, LeaseId};
use crate::template::{TemplateId, Timestamp};

/// A reading of the reconciler's own monotonic clock, from an arbitrary start.
pub type Tick = Duration;

/// A longer pause than this between two looks means that we slept (SIGSTOP, a suspended laptop, a restart): renewals may be
/// waiting in the socket, so every count starts again.
pub const LONGEST_EXPECTED_GAP: Duration = Duration::from_secs(5);

/// Sees which live leases have not been renewed for their TTL.
///
/// It compares the renewal counter with the value this process first saw, on a monotonic clock. So a TTL is a lower bound,
/// whatever happens to wall clocks, and a restart grants every surviving lease a full TTL (etcd calls that Promote).
#[derive(Debug, Default)]
pub struct ExpiryWatch {
    seen: HashMap<LeaseId, (u64, Tick)>,
    last_look: Option<Tick>,
}

impl ExpiryWatch {
    /// Forgets since when nothing moved, so that every lease starts a full TTL: renewals may have been sent that nobody could take.
    pub fn restart(&mut self) {
        self.seen.clear();
    }

    /// The holders of these leases were heard of, though no counter moved: they start a full TTL.
    pub fn heard_of(&mut self, leases: &BTreeSet<LeaseId>) {
        self.seen.retain(|lease, _| !leases.contains(lease));
    }

    /// Takes note of a look at all live leases that began and ended at these moments, and returns the overdue ones, each with the time
    /// since its counter last moved. What passed during a look counts for nobody's end: it may have been a sleep.
    pub fn observe(&mut self, leases: &[Lease], began: Tick, ended: Tick) -> BTreeMap<LeaseId, Duration> {
        if self.last_look.is_some_and(|last| began.saturating_sub(last) > LONGEST_EXPECTED_GAP) {
            self.seen.clear();
        }
        self.last_look = Some(began);
        let mut seen = HashMap::with_capacity(leases.len());
        let mut overdue = BTreeMap::new();
        for lease in leases {
            let since = match self.seen.get(&lease.id) {
                Some(&(renewals, since)) if renewals == lease.renewals => since,
                _ => ended,
            };
            seen.insert(lease.id, (lease.renewals, since));
            let unrenewed = began.saturating_sub(since);
            if unrenewed >= Duration::from_secs(lease.ttl_seconds) {
                overdue.insert(lease.id, unrenewed);
            }
        }
        self.seen = seen;
        overdue
    }
}

/// A difference between two clocks that is no jump: clocks are set right in small steps all the time.
const LARGEST_DRIFT: i64 = 5_000_000;

/// Sees when the server's clock is set, by what passes meanwhile on the reconciler's own monotonic clock.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// What the server's clock said, and between which two readings of ours.
    last: Option<(Timestamp, Tick, Tick)>,
}

impl ClockWatch {
    /// Takes note of what the server's clock said in a look that began and ended at these moments; returns by how many
    /// microseconds it jumped since the look before, if it did.
    pub fn observe(&mut self, server: Timestamp, began: Tick, ended: Tick) -> Option<i64> {
        let (before, last_began, last_ended) = self.last.replace((server, began, ended))?;
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let passed = server.0.saturating_sub(before.0);
        // The server was asked at some moment within each look.
        let least = micros(began.saturating_sub(last_ended));
        let most = micros(ended.saturating_sub(last_began));
        if passed < least.saturating_sub(LARGEST_DRIFT) {
            Some(passed.saturating_sub(least))
        } else {
            (passed > most.saturating_add(LARGEST_DRIFT)).then(|| passed.saturating_sub(most))
        }
    }
}

/// Remembers how many databases of each template were in use at once, so that a pool stays as large as its recent use and
/// falls back to `warm` after a quiet time.
#[derive(Debug)]
pub struct DemandWatch {
    idle: Duration,
    peaks: BTreeMap<TemplateId, VecDeque<(Tick, u32)>>,
}

impl DemandWatch {
    /// A watch that forgets a peak after `idle`.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self { idle, peaks: BTreeMap::new() }
    }

    /// Notes the databases in use now and returns the peaks within the quiet time.
    pub fn observe(&mut self, in_use: &BTreeMap<TemplateId, u32>, now: Tick) -> BTreeMap<TemplateId, u32> {
        for (&template, &count) in in_use {
            let peaks = self.peaks.entry(template).or_default();
            // A mark that is not higher than a later one can never be the peak again.
            while peaks.back().is_some_and(|&(_, earlier)| earlier <= count) {
                peaks.pop_back();
            }
            peaks.push_back((now, count));
        }
        let idle = self.idle;
        self.peaks.retain(|_, peaks| {
            while peaks.front().is_some_and(|&(at, _)| now.saturating_sub(at) > idle) {
                peaks.pop_front();
            }
            !peaks.is_empty()
        });
        self.peaks.iter().filter_map(|(&template, peaks)| peaks.front().map(|&(_, peak)| (template, peak))).collect()
    }
}

#[cfg(test)]
mod tests;
