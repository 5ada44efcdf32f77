//! Steps under way: what they work on, how many of each slow kind may run, and whether drops make headway.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pgdibs_core::database::DatabaseId;
use pgdibs_core::plan::Step;
use pgdibs_core::template::TemplateId;

/// Clones at once. More than the machine has cores still pays, because each waits for checkpoints half of its time. Measured by
/// `pgdibs-bench` with 8 callers on 2 busy cores, against plain Postgres: a fifth more cycles with 8 than with 4, no more with 12.
const CLONES_AT_ONCE: usize = 8;

/// Drops at once: those that wait for a checkpoint at the same time share it. Fewer than clones, and drops fall behind.
const DROPS_AT_ONCE: usize = 8;

/// Fences at once. Each waits for a session that does not end, and none is waited for by a caller whose database is free.
const FENCES_AT_ONCE: usize = 2;

/// Seals at once. Each runs expressions of its builder, which may take minutes, on one of the connections that clones and drops share.
const SEALS_AT_ONCE: usize = 4;

/// Steps under way, and how many of each slow kind.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub(super) databases: BTreeSet<DatabaseId>,
    pub(super) templates: BTreeSet<TemplateId>,
    clones: usize,
    drops: usize,
    fences: usize,
    seals: usize,
    /// Since when drops have been under way of which none has ended.
    dropping: Option<Instant>,
}

impl Busy {
    /// Whether drops have been under way for that long without one coming to its end.
    pub(super) fn drops_hang_for(&self, time: Duration) -> bool {
        self.dropping.is_some_and(|since| since.elapsed() >= time)
    }

    pub(super) fn has_room_for(&self, step: &Step) -> bool {
        match step {
            Step::Clone { .. } => self.clones < CLONES_AT_ONCE,
            Step::Drop { .. } => self.drops < DROPS_AT_ONCE,
            Step::Fence { .. } => self.fences < FENCES_AT_ONCE,
            Step::Seal { .. } => self.seals < SEALS_AT_ONCE,
            _ => true,
        }
    }

    pub(super) fn count(&mut self, step: &Step, begins: bool) {
        let change = |count: &mut usize| if begins { *count += 1 } else { *count -= 1 };
        match step {
            Step::Clone { .. } => change(&mut self.clones),
            Step::Fence { .. } => change(&mut self.fences),
            Step::Seal { .. } => change(&mut self.seals),
            Step::Drop { .. } => {
                change(&mut self.drops);
                if !begins || self.drops == 1 {
                    self.dropping = Some(Instant::now()).filter(|_| self.drops > 0);
                }
            }
            _ => {}
        }
        if let Some(id) = step.database() {
            if begins {
                self.databases.insert(id)
            } else {
                self.databases.remove(&id)
            };
        }
        if let Some(id) = step.template() {
            if begins {
                self.templates.insert(id)
            } else {
                self.templates.remove(&id)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_clones_and_no_more_drops_are_begun_than_may_run_at_once() {
        let clone = |id| Step::Clone { database: DatabaseId(id) };
        let drop = |id| Step::Drop { database: DatabaseId(id) };
        let fence = |id| Step::Fence { database: DatabaseId(id) };
        for (step, at_once) in [(&clone as &dyn Fn(i64) -> Step, 8), (&drop, 8), (&fence, 2)] {
            let mut busy = Busy::default();
            for id in 1..=at_once {
                assert!(busy.has_room_for(&step(id)), "for {id} of them");
                busy.count(&step(id), true);
            }
            assert!(!busy.has_room_for(&step(100)), "{at_once} are under way");
            busy.count(&step(1), false);
            let left = usize::try_from(at_once).unwrap() - 1;
            assert!(busy.has_room_for(&step(100)) && busy.databases.len() == left, "one has ended");
        }
        let mut sealing = Busy::default();
        let seal = |id| Step::Seal { template: TemplateId(id) };
        for id in 1..=4 {
            assert!(sealing.has_room_for(&seal(id)), "for {id} seals");
            sealing.count(&seal(id), true);
        }
        assert!(!sealing.has_room_for(&seal(5)), "four are under way");
        sealing.count(&seal(1), false);
        assert!(sealing.has_room_for(&seal(5)), "one has ended");
        assert!(
            Busy::default().has_room_for(&Step::DropTemplate { template: TemplateId(1) }),
            "of which there is no limit"
        );
    }
}
