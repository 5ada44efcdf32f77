//! When the reconciler takes a snapshot that no wake-up asks for: at the earliest deadline, and ever more rarely while nothing changes.

use std::time::Duration;

use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::TemplateState;
use pgdibs_core::watch::{LONGEST_PAUSE, Tick};

/// A daemon that is not the leader applies for leadership this often, so that a successor leads well within 5 s.
pub(super) const APPLY: Duration = Duration::from_secs(1);

/// The first pause after a change, and the shortest one after a deadline that has passed without a step, such as that of a lease with a
/// session.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause while steps run, of which drops may hang; while callers wait; and while a template is built by a daemon that may die.
const LONGEST_AT_WORK: Duration = Duration::from_secs(5);

/// Pauses grow fourfold from one snapshot to the next while nothing is planned: what changes outside pgdibs mostly changes while pgdibs is in use,
/// and a notification of another daemon can be lost with its connection.
#[derive(Debug, Default)]
pub(super) struct Timer {
    /// Activations in a row that planned nothing.
    quiet: u32,
    planned: bool,
    /// When the last activation ended.
    ended: Tick,
    /// The end of the pause.
    periodic: Tick,
    /// The first deadline in the catalog.
    catalog: Option<Tick>,
    is_awaited: bool,
}

impl Timer {
    /// The reconciler was woken: something has changed.
    pub(super) fn woken(&mut self) {
        self.quiet = 0;
    }

    /// A plan had steps.
    pub(super) fn planned(&mut self) {
        self.planned = true;
    }

    /// A snapshot was taken, and the server read its clock, before `now`.
    pub(super) fn snapshot_taken(&mut self, snapshot: &Snapshot, now: Tick) {
        self.catalog = snapshot.next_change.map(|after| now.saturating_add(after));
        self.is_awaited = !snapshot.tickets.is_empty()
            || snapshot.templates.iter().any(|template| template.state == TemplateState::Building);
    }

    /// An activation of the leader ended.
    pub(super) fn ended(&mut self, now: Tick, is_working: bool) {
        if std::mem::take(&mut self.planned) {
            self.quiet = 0;
        }
        let longest = if is_working || self.is_awaited { LONGEST_AT_WORK } else { LONGEST_PAUSE };
        let pause = SHORTEST_PAUSE.saturating_mul(1 << (2 * self.quiet.min(5))).min(longest);
        self.quiet = self.quiet.saturating_add(1);
        self.ended = now;
        self.periodic = now.saturating_add(pause);
    }

    /// A daemon that is not the leader has applied for leadership.
    pub(super) fn applied(&mut self, now: Tick) {
        *self = Self { ended: now, periodic: now.saturating_add(APPLY), ..Self::default() };
    }

    /// When the next snapshot is due. `next` is the first deadline in the reconciler's memory.
    pub(super) fn due(&self, next: Option<Tick>) -> Tick {
        // A deadline that the last snapshot has seen pass led to no step, and is looked at again after a pause.
        let deadline = |at: Tick| if at <= self.ended { self.ended.saturating_add(SHORTEST_PAUSE) } else { at };
        [next, self.catalog].into_iter().flatten().map(deadline).fold(self.periodic, Tick::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Tick {
        Duration::from_secs(seconds)
    }

    /// The seconds in which an activation is due until second 100, if nothing is planned.
    fn activations(timer: &mut Timer, is_working: bool) -> Vec<u64> {
        let mut seconds = Vec::new();
        let mut now = second(0);
        while now <= second(100) {
            seconds.push(now.as_secs());
            timer.ended(now, is_working);
            now = timer.due(None);
        }
        seconds
    }

    #[test]
    fn pauses_grow_to_half_a_minute_while_nothing_is_planned() {
        let mut timer = Timer::default();
        assert_eq!(activations(&mut timer, false), [0, 1, 5, 21, 51, 81]);
        timer.woken();
        assert_eq!(activations(&mut timer, false), [0, 1, 5, 21, 51, 81]);
        timer.planned();
        assert_eq!(activations(&mut timer, true)[..5], [0, 1, 5, 10, 15], "steps run");
    }

    #[test]
    fn deadline_comes_before_the_end_of_a_pause() {
        let mut timer = Timer::default();
        activations(&mut timer, false);
        let snapshot = Snapshot { next_change: Some(second(3)), ..Snapshot::default() };
        timer.snapshot_taken(&snapshot, second(200));
        timer.ended(second(200), false);
        assert_eq!(timer.due(None), second(203), "in the catalog");
        assert_eq!(timer.due(Some(second(202))), second(202), "in memory");
        assert_eq!(timer.due(Some(second(190))), second(201), "one that has passed is looked at again after a second");
        timer.snapshot_taken(&Snapshot::default(), second(203));
        timer.ended(second(203), false);
        assert_eq!(timer.due(None), second(233));
    }

    #[test]
    fn daemon_that_does_not_lead_applies_each_second() {
        let mut timer = Timer::default();
        activations(&mut timer, false);
        timer.applied(second(200));
        assert_eq!(timer.due(None), second(201));
    }
}
