//! Watches: the reconciler's memory between two snapshots. Its loss (a restart) only delays an expiry or a shrink.

mod effects;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

pub use self::effects::{EffectWatch, Ended, StepIdentity, WithoutEffect};
use crate::lease::{Lease, LeaseId};
use crate::template::{TemplateId, Timestamp};

/// A reading of the reconciler's monotonic clock, from an arbitrary start.
pub type Tick = Duration;

/// The reconciler takes a snapshot at least this often, also when nothing has changed that it knows of.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A longer pause between two snapshots means that the process did not run (SIGSTOP, a suspended laptop). Renewals may wait
/// unread in its sockets, so every TTL starts again.
pub const LONGEST_EXPECTED_GAP: Duration = Duration::from_secs(35);

/// Finds the live leases that were not renewed for their TTL.
///
/// It measures on a monotonic clock for how long a renewal counter has kept its value. So a TTL is a lower bound whatever
/// happens to wall clocks, and a restart gives every live lease a full TTL (etcd calls this Promote).
#[derive(Debug, Default)]
pub struct ExpiryWatch {
    seen: HashMap<LeaseId, Counted>,
    last_began: Option<Tick>,
}

/// A lease's renewal counter, and since when it has kept its value.
#[derive(Debug, Clone, Copy)]
struct Counted {
    renewals: u64,
    since: Tick,
    ttl: Duration,
}

impl ExpiryWatch {
    /// Starts a full TTL for every lease, because the daemon may have missed renewals.
    pub fn restart(&mut self) {
        self.seen.clear();
    }

    /// Starts a full TTL for these leases, whose renewals arrived but are not in the catalog.
    pub fn restart_leases(&mut self, leases: &BTreeSet<LeaseId>) {
        self.seen.retain(|lease, _| !leases.contains(lease));
    }

    /// The catalog got a renewal of this lease at `now` or before. Without this, snapshots that are far apart would start a TTL later than
    /// the renewal did.
    pub fn renewed(&mut self, lease: LeaseId, renewals: u64, ttl: Duration, now: Tick) {
        let counted = Counted { renewals, since: now, ttl };
        let known = self.seen.entry(lease).or_insert(counted);
        if known.renewals < renewals {
            *known = counted;
        }
    }

    /// When the first lease will be overdue, unless it is renewed; a time that has passed if one is.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        self.seen.values().map(|counted| counted.since.saturating_add(counted.ttl)).min()
    }

    /// Compares the live leases of a snapshot taken between `began` and `ended`, and returns the overdue ones, each with the time
    /// since its counter last changed. Time during a snapshot does not count towards a TTL, because the process may have slept.
    pub fn observe(&mut self, leases: &[Lease], began: Tick, ended: Tick) -> BTreeMap<LeaseId, Duration> {
        if self.last_began.is_some_and(|last| began.saturating_sub(last) > LONGEST_EXPECTED_GAP) {
            self.seen.clear();
        }
        self.last_began = Some(began);
        let mut seen = HashMap::with_capacity(leases.len());
        let mut overdue = BTreeMap::new();
        for lease in leases {
            let since = match self.seen.get(&lease.id) {
                Some(counted) if counted.renewals == lease.renewals => counted.since,
                _ => ended,
            };
            let ttl = Duration::from_secs(lease.ttl_seconds);
            seen.insert(lease.id, Counted { renewals: lease.renewals, since, ttl });
            let unrenewed = began.saturating_sub(since);
            if unrenewed >= ttl {
                overdue.insert(lease.id, unrenewed);
            }
        }
        self.seen = seen;
        overdue
    }
}

/// The largest difference between two clocks, in microseconds, that is no jump: NTP corrects clocks in small steps.
const LARGEST_DRIFT: i64 = 5_000_000;

/// Detects jumps of the server's clock by comparison with the reconciler's monotonic clock.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// The server's time, and the monotonic readings before and after it.
    last: Option<(Timestamp, Tick, Tick)>,
}

impl ClockWatch {
    /// Compares the server's time from a snapshot taken between `began` and `ended` with the previous one; returns the jump in
    /// microseconds, if there is one.
    pub fn observe(&mut self, server: Timestamp, began: Tick, ended: Tick) -> Option<i64> {
        let (before, last_began, last_ended) = self.last.replace((server, began, ended))?;
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let passed = server.0.saturating_sub(before.0);
        // The server read its clock at some moment within each snapshot.
        let least = micros(began.saturating_sub(last_ended));
        let most = micros(ended.saturating_sub(last_began));
        if passed < least.saturating_sub(LARGEST_DRIFT) {
            Some(passed.saturating_sub(least))
        } else {
            (passed > most.saturating_add(LARGEST_DRIFT)).then(|| passed.saturating_sub(most))
        }
    }
}

/// Remembers the peak of databases in use per template, so that a pool keeps the size of its recent use and shrinks to `warm`
/// after `idle`.
#[derive(Debug)]
pub struct DemandWatch {
    idle: Duration,
    peaks: BTreeMap<TemplateId, VecDeque<(Tick, u32)>>,
    in_use: BTreeMap<TemplateId, u32>,
}

impl DemandWatch {
    /// A watch that drops a peak after `idle`.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self { idle, peaks: BTreeMap::new(), in_use: BTreeMap::new() }
    }

    /// Records the databases in use now and returns the peaks within `idle`. What the last call recorded was in use until now: each change
    /// wakes the reconciler, so it takes no snapshot in between.
    pub fn observe(&mut self, in_use: &BTreeMap<TemplateId, u32>, now: Tick) -> BTreeMap<TemplateId, u32> {
        let before = std::mem::replace(&mut self.in_use, in_use.clone());
        for (&template, &count) in before.iter().chain(in_use) {
            let peaks = self.peaks.entry(template).or_default();
            // A count that is not above a later one can never be the peak again.
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

    /// What the last call recorded is not known to be in use any more: another daemon has led since.
    pub fn forget_use(&mut self) {
        self.in_use.clear();
    }

    /// When the first peak ends that is above the present use.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        let ends = |(template, peaks): (&TemplateId, &VecDeque<(Tick, u32)>)| {
            let in_use = self.in_use.get(template).copied().unwrap_or(0);
            peaks.front().filter(|(_, peak)| *peak > in_use).map(|(at, _)| at.saturating_add(self.idle))
        };
        self.peaks.iter().filter_map(ends).min()
    }
}

#[cfg(test)]
mod tests;
