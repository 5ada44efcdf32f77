//! Plans the steps of the databases of one pool: returns, fills, clones, retirements and drops.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::placement;
use super::share::{Demand, Share};
use super::shared_capacity::{Capacity, SharedCapacity};
use super::step::{ForgetReason, RetireReason, Step};
use crate::database::{Database, DatabaseId, DatabaseState};
use crate::name::DatabaseName;
use crate::pool::Pool;
use crate::request::TicketKind;
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::{Template, TemplateState};

pub(super) fn plan(
    snapshot: &Snapshot,
    context: &PlannerContext,
    pool: &Pool,
    shared_capacity: &mut SharedCapacity,
    steps: &mut Vec<Step>,
) {
    let mut excluded = BTreeSet::new();
    detect_external_changes(snapshot, context, pool, steps, &mut excluded);

    let databases: Vec<&Database> = snapshot
        .databases
        .iter()
        .filter(|d| d.pool == pool.name && !context.busy_databases.contains(&d.id) && !excluded.contains(&d.id))
        .collect();
    let reserved: BTreeSet<DatabaseId> = snapshot.leases.iter().filter_map(|lease| lease.reset_to).collect();
    // Leases of retiring templates count as well.
    let leased = snapshot.count_databases(|d| d.pool == pool.name && d.state == DatabaseState::Leased);

    let mut shares = shares(snapshot, context, pool, shared_capacity, &databases, &reserved, steps);
    let capacity = shared_capacity.capacity(snapshot, pool);
    place_exact(snapshot, pool, &mut shares, steps);
    evict(leased, capacity, &mut shares, steps);
    evict_for_disk(snapshot, context, shared_capacity, &mut shares, steps);
    let planned = steps.len();
    let occupied = fill(snapshot, pool, leased, capacity, &databases, &mut shares, steps);
    if steps.len() == planned {
        placement::plan(snapshot, pool, leased, &shares, steps);
    }
    shared_capacity.set_in_use(pool, occupied);
    clone(snapshot, context, pool, &databases, &shares, shared_capacity, steps);
    retire_and_drop(snapshot, pool, &databases, steps);

    let is_empty = !snapshot.databases.iter().any(|d| d.pool == pool.name)
        && !snapshot.templates.iter().any(|t| t.pool == pool.name);
    if pool.dropping && is_empty {
        steps.push(Step::ForgetPool { pool: pool.name.clone() });
    }
}

/// Finds databases that were dropped or renamed outside pgdibs, and databases whose daemon died before it recorded the oid.
fn detect_external_changes(
    snapshot: &Snapshot,
    context: &PlannerContext,
    pool: &Pool,
    steps: &mut Vec<Step>,
    excluded: &mut BTreeSet<DatabaseId>,
) {
    let by_name: BTreeMap<&str, u32> = snapshot.server.iter().map(|(&oid, found)| (found.name.as_str(), oid)).collect();
    for database in &snapshot.databases {
        if database.pool != pool.name || context.busy_databases.contains(&database.id) {
            continue;
        }
        let Some(oid) = database.oid else {
            // The name of a row is unique, so a database of pgdibs with that name was created for this row. If another
            // database has the name, the clone of this row would fail for ever; a new row gets another number.
            if let Some(&oid) = by_name.get(database.name.as_str()) {
                steps.push(if snapshot.server.get(&oid).is_some_and(|found| found.owned) {
                    Step::Adopt { database: database.id, oid }
                } else {
                    Step::Forget { database: database.id, reason: ForgetReason::NotNeeded }
                });
                excluded.insert(database.id);
            }
            continue;
        };
        let reason = match snapshot.server.get(&oid) {
            None => Some(ForgetReason::Vanished),
            Some(found) if found.name != database.name.as_str() => Some(ForgetReason::RenamedExternally),
            Some(_) => None,
        };
        if let Some(reason) = reason {
            // The row of a leased database keeps the slot until the lease is revoked (see `leases`).
            if database.state != DatabaseState::Leased {
                steps.push(Step::Forget { database: database.id, reason });
            }
            excluded.insert(database.id);
        }
    }
}

fn shares<'a>(
    snapshot: &'a Snapshot,
    context: &PlannerContext,
    pool: &Pool,
    shared_capacity: &SharedCapacity,
    databases: &[&'a Database],
    reserved: &BTreeSet<DatabaseId>,
    steps: &mut Vec<Step>,
) -> Vec<Share<'a>> {
    let mut shares = Vec::new();
    let is_unused = is_unused(snapshot, pool);
    let surplus = surplus(snapshot, pool);
    for template in snapshot.templates.iter().filter(|t| t.pool == pool.name) {
        let of = |state| databases.iter().copied().filter(move |d| d.template == template.id && d.state == state);
        if template.state != TemplateState::Ready || pool.dropping {
            for database in of(DatabaseState::Ready).chain(of(DatabaseState::Spare)) {
                if !reserved.contains(&database.id) {
                    steps.push(Step::Retire { database: database.id, reason: RetireReason::TemplateRetired });
                }
            }
            for database in of(DatabaseState::Creating).filter(|d| !d.is_cloned()) {
                steps.push(Step::Forget { database: database.id, reason: ForgetReason::NotNeeded });
            }
            continue;
        }
        let mut demand = Demand::of(snapshot, template);
        let peak = context.recent_peak.get(&template.id).copied().unwrap_or(0);
        demand.current &= !is_unused;
        demand.recent = peak > 0 && !is_unused;
        let desired_ready = if demand.is_active() {
            let wanted = demand.waiting.max(demand.announced);
            pool.settings.warm.max(wanted).max(peak.saturating_sub(demand.leased))
        } else {
            0
        };
        let mut ready = Vec::new();
        for database in of(DatabaseState::Ready) {
            match damage(snapshot, database) {
                Some(reason) => steps.push(Step::Retire { database: database.id, reason }),
                None => ready.push(database),
            }
        }
        // The highest slots leave first, so that gw0, gw1, … stay in use.
        ready.sort_by_key(|d| d.slot);
        while ready.len() > desired_ready as usize {
            if let Some(database) = ready.pop() {
                steps.push(Step::Retire { database: database.id, reason: surplus });
            }
        }
        let mut spares = Vec::new();
        for database in of(DatabaseState::Spare).filter(|d| d.due) {
            match damage(snapshot, database) {
                Some(reason) => steps.push(Step::Retire { database: database.id, reason }),
                None if reserved.contains(&database.id) => {}
                None => spares.push(database),
            }
        }
        shares.push(Share {
            template,
            demand,
            claimed: shared_capacity.claimed(template.id),
            ready,
            spares,
            creating: snapshot.databases.iter().filter(|d| d.template == template.id && is_uncloned(d)).collect(),
            desired_ready,
        });
    }
    // Templates with waiting requests come first, then announced ones, then the current one.
    shares.sort_by_key(|s| Reverse((s.claimed > 0, s.demand.announced > 0, s.demand.current, s.template.id)));
    shares
}

/// Whether nothing has used the pool for `idle_pool_seconds`: no lease, waiter, announced run, and no `PUT`.
fn is_unused(snapshot: &Snapshot, pool: &Pool) -> bool {
    pool.unused_seconds >= pool.settings.idle_pool_seconds
        && !snapshot.leases.iter().any(|lease| lease.pool == pool.name)
        && !snapshot.tickets.iter().any(|ticket| ticket.pool == pool.name)
        && !snapshot.runs.iter().any(|run| run.pool == pool.name)
}

/// Why a database that the pool does not need retires.
fn surplus(snapshot: &Snapshot, pool: &Pool) -> RetireReason {
    if is_unused(snapshot, pool) { RetireReason::PoolUnused } else { RetireReason::Surplus }
}

/// Whether a row has no clone yet. A blocked one counts, so that the planner adds no second row for it.
fn is_uncloned(database: &Database) -> bool {
    matches!(database.state, DatabaseState::Creating | DatabaseState::Blocked) && !database.is_cloned()
}

/// Why a lease cannot use a spare or ready database.
pub(super) fn damage(snapshot: &Snapshot, database: &Database) -> Option<RetireReason> {
    let found = snapshot.on_server(database.oid)?;
    if found.invalid {
        Some(RetireReason::Invalid)
    } else if found.sessions > 0 || found.sessions_ever > 0 {
        Some(RetireReason::Tampered)
    } else {
        found.locked_out.then_some(RetireReason::LockedOut)
    }
}

/// Whether a swap of the database failed at the fence (it is still open or has sessions), so that a separate step fences it.
pub(super) fn is_stuck(snapshot: &Snapshot, database: &Database) -> bool {
    database.attempts > 0 && snapshot.on_server(database.oid).is_some_and(|found| found.open || found.sessions > 0)
}

/// Whether a drop was interrupted, so that Postgres only allows another drop, no connection and no rename.
fn is_invalid(snapshot: &Snapshot, database: &Database) -> bool {
    snapshot.on_server(database.oid).is_some_and(|found| found.invalid)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn occupied(leased: u32, shares: &[Share<'_>]) -> u32 {
    leased + shares.iter().map(|s| count(s.ready.len())).sum::<u32>()
}

/// Slots that waiting requests of this pool still need.
fn lacking(shares: &[Share<'_>]) -> u32 {
    shares.iter().map(|s| s.claimed.saturating_sub(count(s.ready.len()))).sum()
}

/// Frees the slots 0 to n − 1 for requests that need exactly those. A ready database of another template leaves such a slot. For
/// each empty slot, an idle database leaves a higher slot, so that a spare enters the empty one. Leased slots do not change.
fn place_exact(snapshot: &Snapshot, pool: &Pool, shares: &mut [Share<'_>], steps: &mut Vec<Step>) {
    for index in 0..shares.len() {
        let template = shares[index].template.id;
        let exact = snapshot.tickets.iter().filter(|t| t.kind == TicketKind::Exact && t.template == template);
        let Some(slots) = exact.map(|ticket| ticket.count).max() else { continue };
        let mut empty = 0_u32;
        for slot in 0..slots {
            if shares[index].ready.iter().any(|d| d.slot == Some(slot)) {
                continue;
            }
            for share in shares.iter_mut() {
                if let Some(at) = share.ready.iter().position(|d| d.slot == Some(slot)) {
                    let other = share.ready.remove(at);
                    steps.push(Step::Retire { database: other.id, reason: RetireReason::Evicted });
                }
            }
            let held = |d: &Database| d.pool == pool.name && d.slot == Some(slot) && d.state == DatabaseState::Leased;
            if !snapshot.databases.iter().any(held) {
                empty += 1;
            }
        }
        for _ in 0..empty {
            // `ready` is sorted by slot, so this takes the highest.
            let Some(misplaced) = shares[index].ready.pop_if(|d| d.slot >= Some(slots)) else { break };
            steps.push(Step::Retire { database: misplaced.id, reason: RetireReason::Evicted });
        }
    }
}

/// Retires ready databases that no request waits for, least recently used first, until every waiting request can get a slot.
/// Retires any ready database while the pool has more slots than it may have (its `max` was lowered), the highest slots first.
fn evict(leased: u32, capacity: Capacity, shares: &mut [Share<'_>], steps: &mut Vec<Step>) {
    loop {
        let in_use = occupied(leased, shares);
        let too_many = in_use > capacity.most;
        if !too_many && in_use + lacking(shares) <= capacity.idle {
            return;
        }
        let next = shares
            .iter()
            .enumerate()
            .flat_map(|(index, s)| {
                let claimed = s.ready.len() <= s.claimed as usize;
                s.ready.iter().map(move |d| (claimed, too_many.then_some(Reverse(d.slot)), d.ready_at, d.id, index))
            })
            .min()
            .filter(|(claimed, ..)| too_many || !claimed);
        let Some((.., id, index)) = next else { return };
        shares[index].ready.retain(|d| d.id != id);
        steps.push(Step::Retire { database: id, reason: RetireReason::Evicted });
    }
}

/// Retires an idle database of a large template when the disk has no room for the clone that a request for another template waits for; the
/// next one when that is dropped.
fn evict_for_disk(
    snapshot: &Snapshot,
    context: &PlannerContext,
    shared_capacity: &SharedCapacity,
    shares: &mut [Share<'_>],
    steps: &mut Vec<Step>,
) {
    let lacks = |share: &Share<'_>| {
        let running = share.creating.iter().filter(|d| context.busy_databases.contains(&d.id)).count();
        let coming = share.ready.len() + share.spares.len() + running;
        (share.claimed + share.demand.resets) as usize > coming
            && shared_capacity.clones_that_fit(snapshot, share.template) == 0
    };
    let Some(waiting) = shares.iter().position(lacks) else { return };
    if snapshot.databases.iter().any(|d| d.state == DatabaseState::Retiring) {
        return;
    }
    let large = shares.iter_mut().enumerate().filter(|(index, s)| *index != waiting && s.template.is_large());
    // The shares that are wanted least come last.
    for (_, share) in large.rev() {
        let unclaimed = share.ready.iter().skip(share.claimed as usize).min_by_key(|d| (d.ready_at, d.id));
        let Some(id) = share.spares.last().or(unclaimed).map(|d| d.id) else { continue };
        share.spares.retain(|d| d.id != id);
        share.ready.retain(|d| d.id != id);
        steps.push(Step::Retire { database: id, reason: RetireReason::Evicted });
        return;
    }
}

/// Moves spares into slots, both those being returned and empty ones, lowest number first. Returns the slots then in use.
fn fill(
    snapshot: &Snapshot,
    pool: &Pool,
    leased: u32,
    capacity: Capacity,
    databases: &[&Database],
    shares: &mut [Share<'_>],
    steps: &mut Vec<Step>,
) -> u32 {
    let leaving = databases.iter().filter(|d| leaves_slot(d) && d.due && !is_invalid(snapshot, d));
    let (stuck, leaving): (Vec<&Database>, Vec<&Database>) = leaving.partition(|d| is_stuck(snapshot, d));
    steps.extend(stuck.into_iter().map(|d| Step::Fence { database: d.id }));
    let mut returning: BTreeMap<u32, DatabaseId> = leaving.into_iter().filter_map(|d| Some((d.slot?, d.id))).collect();
    // A database that this plan retires keeps its slot until the next plan: an acquire can take it before the step runs.
    let ready = count(databases.iter().filter(|d| d.state == DatabaseState::Ready).count());
    let leaving = ready.saturating_sub(occupied(leased, shares) - leased);
    let mut in_use = occupied(leased, shares);
    let mut free = capacity.most.saturating_sub(in_use);
    // Slots that waiting requests need stay free for them: an idle database there would be evicted again.
    let mut free_for_idle = capacity.idle.saturating_sub(in_use + lacking(shares));
    let mut occupied_slots: BTreeSet<u32> =
        snapshot.databases.iter().filter(|d| d.pool == pool.name).filter_map(|d| d.slot).collect();
    // Another database with the name of a slot, without a row in the catalog, makes that number unusable.
    let names: BTreeSet<&str> = snapshot.server.values().map(|found| found.name.as_str()).collect();
    let mut next_free = 0_u32;
    for share in shares.iter_mut() {
        // Waiting resets take precedence over refills.
        let for_resets = (share.demand.resets as usize).min(share.spares.len());
        let mut available = share.spares.split_off(for_resets).into_iter();
        let mut has = count(share.ready.len());
        while has < share.desired_ready {
            let claimed = has < share.claimed;
            if free <= leaving || (!claimed && free_for_idle <= leaving) {
                break;
            }
            let Some(spare) = available.next() else { break };
            while occupied_slots.contains(&next_free)
                || names.contains(DatabaseName::slot(&pool.name, next_free).as_str())
            {
                next_free += 1;
            }
            let returned = returning.first_key_value().map(|(&slot, &used)| (slot, used));
            match returned {
                Some((slot, used)) if slot < next_free => {
                    returning.remove(&slot);
                    steps.push(Step::Return { used, spare: Some(spare.id) });
                }
                _ => {
                    occupied_slots.insert(next_free);
                    steps.push(Step::Fill { spare: spare.id, slot: next_free });
                }
            }
            has += 1;
            in_use += 1;
            free -= 1;
            if !claimed {
                free_for_idle -= 1;
            }
        }
        // The rest is for `clone`.
        let for_waiters = share.claimed.saturating_sub(has).min(free);
        let for_idle = share.desired_ready.saturating_sub(has.max(share.claimed)).min(free_for_idle);
        free_for_idle -= for_idle;
        share.desired_ready = for_waiters + for_idle;
        share.spares.extend(available);
    }
    for used in returning.into_values() {
        steps.push(Step::Return { used, spare: None });
    }
    in_use + leaving
}

fn leaves_slot(database: &Database) -> bool {
    database.slot.is_some()
        && database.is_cloned()
        && matches!(database.state, DatabaseState::Retiring | DatabaseState::Kept | DatabaseState::Blocked)
}

/// Starts the clones that are due, adds rows for missing ones, and removes surplus ones.
fn clone(
    snapshot: &Snapshot,
    context: &PlannerContext,
    pool: &Pool,
    databases: &[&Database],
    shares: &[Share<'_>],
    shared_capacity: &mut SharedCapacity,
    steps: &mut Vec<Step>,
) {
    for share in shares {
        let lacking = share.desired_ready as usize + share.demand.resets as usize;
        let spares_needed = if share.demand.is_active() && !pool.dropping { pool.settings.spares as usize } else { 0 };
        let needed = lacking + spares_needed;
        let coming = share.creating.len() + share.spares.len();
        let running = share.creating.iter().filter(|d| context.busy_databases.contains(&d.id)).count();
        // Requests that wait for a clone. Any other clone of a large template leaves the disk room for one more: that of a request that
        // comes, or the build of the next template.
        let urgent = share.claimed.saturating_sub(count(share.ready.len())) as usize + share.demand.resets as usize;
        let reserved = |started: usize| usize::from(share.template.is_large() && running + started >= urgent);
        let keep = share.creating.len().min(needed.saturating_sub(share.spares.len()));
        let mut started = 0;
        for database in share.creating.iter().take(keep) {
            let idle = databases.iter().any(|d| d.id == database.id);
            let fits = shared_capacity.clones_that_fit(snapshot, share.template) > reserved(started);
            if database.due && idle && fits && running + started < at_once(share.template) {
                shared_capacity.take_disk(snapshot, share.template);
                steps.push(Step::Clone { database: database.id, awaited: running + started < urgent });
                started += 1;
            }
        }
        if coming < needed {
            let room = shared_capacity.clones_that_fit(snapshot, share.template).saturating_sub(reserved(started));
            let queued = share.creating.len() - running - started;
            let count = count((needed - coming).min(room.saturating_sub(queued)));
            if count > 0 {
                steps.push(Step::NewDatabases { template: share.template.id, count });
            }
        } else {
            let mut surplus = coming - needed;
            for database in share.creating.iter().rev().take(surplus) {
                if databases.iter().any(|d| d.id == database.id) {
                    steps.push(Step::Forget { database: database.id, reason: ForgetReason::NotNeeded });
                }
            }
            surplus = surplus.saturating_sub(share.creating.len());
            let reason = self::surplus(snapshot, pool);
            for database in share.spares.iter().rev().take(surplus) {
                steps.push(Step::Retire { database: database.id, reason });
            }
        }
    }
}

/// How many clones of a template may run at once. Clones of a large template that copy its contents share the bandwidth of the disk, so each
/// ends sooner when they run one after the other, and no caller waits for longer than one of them.
fn at_once(template: &Template) -> usize {
    if template.is_large() && template.shares_blocks() != Some(true) { 1 } else { usize::MAX }
}

/// Drops databases that have left their slot, and retires kept ones whose time is over.
fn retire_and_drop(snapshot: &Snapshot, pool: &Pool, databases: &[&Database], steps: &mut Vec<Step>) {
    for database in databases {
        let invalid = is_invalid(snapshot, database);
        match database.state {
            DatabaseState::Kept if invalid => {
                steps.push(Step::Retire { database: database.id, reason: RetireReason::Invalid });
            }
            DatabaseState::Kept if database.slot.is_none() && pool.dropping => {
                steps.push(Step::Retire { database: database.id, reason: RetireReason::PoolDropped });
            }
            DatabaseState::Kept if database.slot.is_none() && database.keep_expired => {
                steps.push(Step::Retire { database: database.id, reason: RetireReason::KeepExpired });
            }
            DatabaseState::Retiring | DatabaseState::Blocked
                if (database.slot.is_none() || invalid) && database.is_cloned() && database.due =>
            {
                steps.push(Step::Drop { database: database.id });
            }
            // The database was never created: its row retired before the clone, or its template is no longer ready.
            DatabaseState::Retiring if !database.is_cloned() => {
                steps.push(Step::Forget { database: database.id, reason: ForgetReason::NotNeeded });
            }
            DatabaseState::Blocked
                if !database.is_cloned()
                    && snapshot.template(database.template).is_none_or(|t| t.state != TemplateState::Ready) =>
            {
                steps.push(Step::Forget { database: database.id, reason: ForgetReason::NotNeeded });
            }
            _ => {}
        }
    }
}
