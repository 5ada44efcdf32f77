//! Capacity that the pools share: slots under `max` and `max_connections`, and disk space, given out in ticket order.

use std::collections::BTreeMap;

use crate::database::{Database, DatabaseState};
use crate::name::PoolName;
use crate::pool::Pool;
use crate::request::TicketKind;
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::{Template, TemplateId, TemplateState};

/// The shared capacity that is left while a plan is made.
pub(super) struct SharedCapacity {
    /// Slots in use per pool after its part of the plan. All pools share `max_connections`.
    in_use: BTreeMap<PoolName, u32>,
    /// Databases per template that are promised to waiting requests, in ticket order. Without that order, two batches could each
    /// hold a part of the pool and wait for the rest for ever.
    claimed: BTreeMap<TemplateId, u32>,
    /// Bytes that further clones may use; `None` if the daemon cannot access the disk.
    disk: Option<u64>,
}

/// The slots that a pool may have, ready and leased together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Its `max`, lowered to what `max_connections` leaves next to the slots of other pools.
    pub(super) most: u32,
    /// The same minus the slots that waiting requests of other pools lack: they take precedence over idle databases.
    pub(super) idle: u32,
}

impl SharedCapacity {
    pub(super) fn of(snapshot: &Snapshot, context: &PlannerContext) -> Self {
        let in_slots = |d: &Database| matches!(d.state, DatabaseState::Ready | DatabaseState::Leased);
        let in_use = |pool: &Pool| snapshot.count_databases(|d| d.pool == pool.name && in_slots(d));
        Self {
            in_use: snapshot.pools.iter().map(|pool| (pool.name.clone(), in_use(pool))).collect(),
            claimed: claims(snapshot),
            disk: snapshot
                .limits
                .bytes_above_floor()
                .map(|left| left.saturating_sub(bytes_in_progress(snapshot, context))),
        }
    }

    /// How many more clones of a template leave the disk above its floor.
    pub(super) fn clones_that_fit(&self, snapshot: &Snapshot, template: &Template) -> usize {
        if snapshot.limits.below_disk_floor() {
            return 0;
        }
        let fit = |left: u64| left.checked_div(snapshot.bytes_of_clone(template)).unwrap_or(u64::MAX);
        self.disk.map_or(usize::MAX, |left| usize::try_from(fit(left)).unwrap_or(usize::MAX))
    }

    /// Subtracts a clone that the plan starts.
    pub(super) fn take_disk(&mut self, snapshot: &Snapshot, template: &Template) {
        self.disk = self.disk.map(|left| left.saturating_sub(snapshot.bytes_of_clone(template)));
    }

    pub(super) fn claimed(&self, template: TemplateId) -> u32 {
        self.claimed.get(&template).copied().unwrap_or(0)
    }

    /// Sets the slots that a pool has in use after its part of the plan.
    pub(super) fn set_in_use(&mut self, pool: &Pool, slots: u32) {
        self.in_use.insert(pool.name.clone(), slots);
    }

    pub(super) fn capacity(&self, snapshot: &Snapshot, pool: &Pool) -> Capacity {
        let max = if pool.dropping { 0 } else { pool.settings.max };
        let Some(limit) = snapshot.limits.slots_by_connections else {
            return Capacity { most: max, idle: max };
        };
        let others: u32 = self.in_use.iter().filter(|(name, _)| *name != &pool.name).map(|(_, slots)| slots).sum();
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

/// The bytes of clones in progress. They may have used a part already; counting it twice errs on the safe side.
fn bytes_in_progress(snapshot: &Snapshot, context: &PlannerContext) -> u64 {
    let cloning = snapshot.databases.iter().filter(|d| !d.is_cloned() && context.busy_databases.contains(&d.id));
    cloning.filter_map(|d| snapshot.template(d.template)).map(|template| snapshot.bytes_of_clone(template)).sum()
}

fn claims(snapshot: &Snapshot) -> BTreeMap<TemplateId, u32> {
    let leased = |in_pool: Option<&PoolName>| {
        snapshot.count_databases(|d| d.state == DatabaseState::Leased && in_pool.is_none_or(|pool| pool == &d.pool))
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
        let most = snapshot.pool(&ticket.pool).map_or(0, |pool| pool.settings.max);
        // `max` was lowered below this request. Its next attempt fails, and until then it must not delay others.
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
