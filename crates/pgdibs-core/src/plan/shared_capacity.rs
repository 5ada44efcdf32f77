//! Who may have which of the slots: `max`, `max_connections`, and the order of those who wait.

use std::collections::BTreeMap;

use crate::database::{Database, DatabaseState};
use crate::name::PoolName;
use crate::pool::Pool;
use crate::request::TicketKind;
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::{Template, TemplateId, TemplateState};

/// What the plans of the pools share.
pub(super) struct SharedCapacity {
    /// Slots that each pool has in use, as the plan leaves them: what one pool takes of `max_connections`, the next one lacks.
    taken: BTreeMap<PoolName, u32>,
    /// Databases per template that waiters may count on, given out in the order of their tickets. Without that order, two
    /// batches could each hold a part of the pool and wait for the rest for ever.
    claimed: BTreeMap<TemplateId, u32>,
    /// Bytes that clones may still take, those under way paid for; `None` when we cannot see the disk.
    disk: Option<u64>,
}

/// Slots that a pool may have, ready and leased together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Its `max`, lowered to what `max_connections` leaves beside the slots of other pools.
    pub(super) most: u32,
    /// The same, less what waiters of other pools lack: databases that nobody waits for make way for them.
    pub(super) idle: u32,
}

impl SharedCapacity {
    pub(super) fn of(snapshot: &Snapshot, context: &PlannerContext) -> Self {
        let in_slots = |d: &Database| matches!(d.state, DatabaseState::Ready | DatabaseState::Leased);
        let taken = |pool: &Pool| snapshot.count_databases(|d| d.pool == pool.name && in_slots(d));
        Self {
            taken: snapshot.pools.iter().map(|pool| (pool.name.clone(), taken(pool))).collect(),
            claimed: claims(snapshot),
            disk: snapshot.limits.bytes_above_floor().map(|left| left.saturating_sub(under_way(snapshot, context))),
        }
    }

    /// Whether one more clone of a template stays above the disk's floor.
    pub(super) fn has_disk_for(&self, snapshot: &Snapshot, template: &Template) -> bool {
        !snapshot.limits.below_disk_floor() && self.disk.is_none_or(|left| left >= snapshot.bytes_of_clone(template))
    }

    /// Takes note of a clone that the plan starts.
    pub(super) fn takes_disk(&mut self, snapshot: &Snapshot, template: &Template) {
        self.disk = self.disk.map(|left| left.saturating_sub(snapshot.bytes_of_clone(template)));
    }

    /// Ready databases of a template that waiters may count on.
    pub(super) fn claimed(&self, template: TemplateId) -> u32 {
        self.claimed.get(&template).copied().unwrap_or(0)
    }

    /// Takes note of the slots that a pool has in use after its part of the plan.
    pub(super) fn note(&mut self, pool: &Pool, slots: u32) {
        self.taken.insert(pool.name.clone(), slots);
    }

    pub(super) fn capacity(&self, snapshot: &Snapshot, pool: &Pool) -> Capacity {
        let max = if pool.dropping { 0 } else { pool.settings.max };
        let Some(limit) = snapshot.limits.slots_by_connections else {
            return Capacity { most: max, idle: max };
        };
        let others: u32 = self.taken.iter().filter(|(name, _)| *name != &pool.name).map(|(_, slots)| slots).sum();
        let lacking: u32 = snapshot
            .templates
            .iter()
            .filter(|t| t.pool != pool.name && t.state == TemplateState::Ready)
            .map(|t| {
                let ready = snapshot.count_databases(|d| d.template == t.id && d.state == DatabaseState::Ready);
                self.claimed(t.id).saturating_sub(ready)
            })
            .sum();
        let most = limit.saturating_sub(others);
        Capacity { most: max.min(most), idle: max.min(most.saturating_sub(lacking)) }
    }
}

/// What clones that are being made will have taken. Some of it is gone from the disk already: that errs on the safe side.
fn under_way(snapshot: &Snapshot, context: &PlannerContext) -> u64 {
    let cloning = snapshot.databases.iter().filter(|d| !d.is_cloned() && context.busy_databases.contains(&d.id));
    cloning.filter_map(|d| snapshot.template(d.template)).map(|template| snapshot.bytes_of_clone(template)).sum()
}

fn claims(snapshot: &Snapshot) -> BTreeMap<TemplateId, u32> {
    let leased = |wanted: Option<&PoolName>| {
        snapshot.count_databases(|d| d.state == DatabaseState::Leased && wanted.is_none_or(|pool| pool == &d.pool))
    };
    let limit = snapshot.limits.slots_by_connections.unwrap_or(u32::MAX);
    let mut left = limit.saturating_sub(leased(None));
    let mut left_in: BTreeMap<&PoolName, u32> = snapshot
        .pools
        .iter()
        .map(|pool| (&pool.name, pool.settings.max.saturating_sub(leased(Some(&pool.name)))))
        .collect();
    let mut claimed = BTreeMap::new();
    for ticket in snapshot.tickets.iter().filter(|ticket| ticket.kind != TicketKind::Reset) {
        let ready = snapshot.template(ticket.template).is_some_and(|t| t.state == TemplateState::Ready);
        let most = snapshot.pools.iter().find(|pool| pool.name == ticket.pool).map_or(0, |pool| pool.settings.max);
        // What can never fit (`max` was lowered meanwhile) is refused when it asks again, and must not hold others up.
        if !ready || ticket.count > most.min(limit) {
            continue;
        }
        let Some(in_pool) = left_in.get_mut(&ticket.pool) else { continue };
        let claim = ticket.count.min(*in_pool).min(left);
        *in_pool -= claim;
        left -= claim;
        *claimed.entry(ticket.template).or_insert(0) += claim;
    }
    claimed
}
