//! Running steps: which databases and templates they work on, how many of each kind run, and whether drops end.

use std::collections::{BTreeSet, HashMap};
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use pgdibs_core::database::DatabaseId;
use pgdibs_core::plan::{Class, Step};
use pgdibs_core::template::TemplateId;

type Kind = (Discriminant<Step>, bool);

fn kind(step: &Step) -> Kind {
    (discriminant(step), matches!(step, Step::Clone { awaited: true, .. }))
}

/// Running steps, and how many of each kind.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub(super) databases: BTreeSet<DatabaseId>,
    pub(super) templates: BTreeSet<TemplateId>,
    /// By kind of step, of which awaited and other clones are two.
    running: HashMap<Kind, usize>,
    /// Since when drops run of which none has ended.
    dropping: Option<Instant>,
}

impl Busy {
    /// Whether drops have run for that long without one ending.
    pub(super) fn drops_hang_for(&self, time: Duration) -> bool {
        self.dropping.is_some_and(|since| since.elapsed() >= time)
    }

    /// Whether no step runs.
    pub(super) fn is_idle(&self) -> bool {
        self.running.values().all(|count| *count == 0)
    }

    pub(super) fn has_capacity_for(&self, step: &Step) -> bool {
        match step.class() {
            Class::Slow { at_once } => self.running.get(&kind(step)).is_none_or(|count| *count < at_once),
            Class::Urgent | Class::Fast => true,
        }
    }

    pub(super) fn count(&mut self, step: &Step, begins: bool) {
        let count = self.running.entry(kind(step)).or_default();
        *count = if begins { *count + 1 } else { *count - 1 };
        if matches!(step, Step::Drop { .. }) && (!begins || *count == 1) {
            self.dropping = Some(Instant::now()).filter(|_| *count > 0);
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
    fn steps_of_a_kind_run_up_to_their_limit() {
        let clone = |id| Step::Clone { database: DatabaseId(id), awaited: true };
        let refill = |id| Step::Clone { database: DatabaseId(id), awaited: false };
        let drop = |id| Step::Drop { database: DatabaseId(id) };
        let fence = |id| Step::Fence { database: DatabaseId(id) };
        for (step, at_once) in [(&clone as &dyn Fn(i64) -> Step, 8), (&refill, 4), (&drop, 8), (&fence, 2)] {
            let mut busy = Busy::default();
            for id in 1..=at_once {
                assert!(busy.has_capacity_for(&step(id)), "for {id} of them");
                busy.count(&step(id), true);
            }
            assert!(!busy.has_capacity_for(&step(100)), "{at_once} run");
            busy.count(&step(1), false);
            let left = usize::try_from(at_once).unwrap() - 1;
            assert!(busy.has_capacity_for(&step(100)) && busy.databases.len() == left, "one has ended");
        }
        let mut refilling = Busy::default();
        (1..=4).for_each(|id| refilling.count(&refill(id), true));
        assert!(refilling.has_capacity_for(&clone(5)), "a caller waits for no refill");
        let mut sealing = Busy::default();
        let seal = |id| Step::Seal { template: TemplateId(id) };
        for id in 1..=4 {
            assert!(sealing.has_capacity_for(&seal(id)), "for {id} seals");
            sealing.count(&seal(id), true);
        }
        assert!(!sealing.has_capacity_for(&seal(5)), "four run");
        sealing.count(&seal(1), false);
        assert!(sealing.has_capacity_for(&seal(5)), "one has ended");
        assert!(
            Busy::default().has_capacity_for(&Step::DropTemplate { template: TemplateId(1) }),
            "of which there is no limit"
        );
    }
}
