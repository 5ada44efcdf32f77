//! The live leases that events have shown: whom the end of a lease concerns is then known without asking the catalog.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::lease::{Lease, LeaseId};

/// More leases than that live at no server; the end of one may have been lost with a notification.
const MOST: usize = 10_000;

#[derive(Debug)]
struct Known {
    granted: Event,
    since: Instant,
    /// When its time to live is over unless it is renewed.
    due: Option<Instant>,
}

/// Live leases.
#[derive(Debug, Default)]
pub(super) struct KnownLeases(HashMap<LeaseId, Known>);

impl KnownLeases {
    /// Adds a lease that was granted, removes one that ended.
    pub(super) fn observe(&mut self, event: &Event, now: Instant) {
        let Some(id) = event.lease else { return };
        match event.kind {
            EventKind::LeaseGranted => {
                if self.0.len() >= MOST {
                    self.0.clear();
                }
                self.0.insert(id, Known { granted: event.clone(), since: now, due: None });
            }
            EventKind::LeaseReleased | EventKind::LeaseExpired | EventKind::LeaseRevoked => {
                self.0.remove(&id);
            }
            _ => {}
        }
    }

    /// The lease was granted or renewed; by how much that came too late.
    pub(super) fn set_due(&mut self, lease: &Lease, now: Instant) -> Option<Duration> {
        let known = self.0.get_mut(&lease.id)?;
        let due = known.due.replace(now + Duration::from_secs(lease.ttl_seconds))?;
        now.checked_duration_since(due).filter(|late| !late.is_zero())
    }

    /// The event of its end, if it is known.
    pub(super) fn take(&mut self, id: LeaseId, kind: EventKind, now: Instant) -> Option<Event> {
        let known = self.0.remove(&id)?;
        Some(Event { kind, ..known.granted }.taking(now.saturating_duration_since(known.since)))
    }

    /// The event of its grant, if it is known.
    pub(super) fn granted(&self, id: LeaseId) -> Option<Event> {
        self.0.get(&id).map(|known| known.granted.clone())
    }

    /// Those of a run.
    pub(super) fn of_run(&self, run: &str) -> Vec<LeaseId> {
        let of_run = self.0.iter().filter(|(_, known)| known.granted.run.as_deref() == Some(run));
        of_run.map(|(id, _)| *id).collect()
    }
}
