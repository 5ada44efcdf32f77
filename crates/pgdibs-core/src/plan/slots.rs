//! Plans what happens to the databases of one pool: returns, fills, clones, retirements and drops.

use std::collections::{BTreeMap, BTreeSet};

use super::shared_capacity::{Capacity, SharedCapacity};
use super::step::{ForgetReason, RetireReason, Step};
use crate::database::{Database, DatabaseId, DatabaseState};
use crate::name::DatabaseName;
use crate::pool::Pool;
use crate::request::TicketKind;
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::{Template, TemplateId, TemplateState};

/// What is asked of one template at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Demand {
    /// Databases on lease.
    pub(super) leased: u32,
    /// Databases that waiters want.
    pub(super) waiting: u32,
    /// Databases that announced runs still lack.
    pub(super) announced: u32,
    /// Spares that waiting resets want.
    pub(super) resets: u32,
    /// Whether it is the one that a request without fingerprint gets.
    newest: bool,
}

impl Demand {
    pub(super) fn of(snapshot: &Snapshot, template: &Template) -> Self {
        let newest = snapshot.newest_ready(&template.pool).is_some_and(|found| found.id == template.id);
        let waiting = |kind| {
            snapshot
                .tickets
                .iter()
                .filter(|t| t.template == template.id && t.kind == kind)
                .map(|t| t.count)
                .sum::<u32>()
        };
        let announced = snapshot
            .runs
            .iter()
            .filter(|run| run.pool == template.pool)
            .filter(|run| run.fingerprint.as_ref().map_or(newest, |wanted| wanted == &template.fingerprint))
            .map(|run| run.wanted.saturating_sub(run.held))
            .sum();
        Self {
            leased: snapshot.count_databases(|d| d.template == template.id && d.state == DatabaseState::Leased),
            waiting: waiting(TicketKind::Acquire) + waiting(TicketKind::Exact),
            announced,
            resets: waiting(TicketKind::Reset),
            newest,
        }
    }

    fn is_active(self) -> bool {
        self.newest || self.leased + self.waiting + self.announced + self.resets > 0
    }
}

/// One template's share of the pool while a plan is made.
struct Share<'a> {
    template: &'a Template,
    demand: Demand,
    /// Ready databases that waiters may count on; see [`SharedCapacity`].
    claimed: u32,
    /// Ready databases that stay.
    ready: Vec<&'a Database>,
    /// Spares that nobody has reserved, oldest first.
    spares: Vec<&'a Database>,
    /// Clones to come.
    creating: Vec<&'a Database>,
    desired_ready: u32,
}

pub(super) fn plan(
    snapshot: &Snapshot,
    context: &PlannerContext,
    pool: &Pool,
    shared_capacity: &mut SharedCapacity,
    steps: &mut Vec<Step>,
) {
    let mut gone = BTreeSet::new();
    recognise_hand_work(snapshot, context, pool, steps, &mut gone);

    let databases: Vec<&Database> = snapshot
        .databases
        .iter()
        .filter(|d| d.pool == pool.name && !context.busy_databases.contains(&d.id) && !gone.contains(&d.id))
        .collect();
    let reserved: BTreeSet<DatabaseId> = snapshot.leases.iter().filter_map(|lease| lease.reset_to).collect();
    // Every lease counts, also one whose template is on its way out.
    let leased = snapshot.count_databases(|d| d.pool == pool.name && d.state == DatabaseState::Leased);

    let mut shares = shares(snapshot, context, pool, shared_capacity, &databases, &reserved, steps);
    let capacity = shared_capacity.capacity(snapshot, pool);
    seat(snapshot, pool, &mut shares, steps);
    make_room(leased, capacity, &mut shares, steps);
    let occupied = fill(snapshot, pool, leased, capacity, &databases, &mut shares, steps);
    shared_capacity.note(pool, occupied);
    clone(snapshot, pool, &databases, &shares, shared_capacity, steps);
    retire_and_drop(snapshot, pool, &databases, steps);

    let holds_nothing = !snapshot.databases.iter().any(|d| d.pool == pool.name)
        && !snapshot.templates.iter().any(|t| t.pool == pool.name);
    if pool.dropping && holds_nothing {
        steps.push(Step::ForgetPool { pool: pool.name.clone() });
    }
}

/// Databases that were dropped, renamed or connected to by somebody else, or whose creator died.
fn recognise_hand_work(
    snapshot: &Snapshot,
    context: &PlannerContext,
    pool: &Pool,
    steps: &mut Vec<Step>,
    gone: &mut BTreeSet<DatabaseId>,
) {
    let by_name: BTreeMap<&str, u32> = snapshot.server.iter().map(|(&oid, found)| (found.name.as_str(), oid)).collect();
    for database in &snapshot.databases {
        if database.pool != pool.name || context.busy_databases.contains(&database.id) {
            continue;
        }
        let Some(oid) = database.oid else {
            // The name of a row is given once, so whatever of ours carries it was created for this row. If somebody else
            // has taken the name, no clone will ever get it: another row with another number serves.
            if let Some(&oid) = by_name.get(database.name.as_str()) {
                steps.push(if snapshot.server.get(&oid).is_some_and(|found| found.ours) {
                    Step::AdoptHalfMade { database: database.id, oid }
                } else {
                    Step::Forget { database: database.id, reason: ForgetReason::NotWanted }
                });
                gone.insert(database.id);
            }
            continue;
        };
        let reason = match snapshot.server.get(&oid) {
            None => Some(ForgetReason::Vanished),
            Some(found) if found.name != database.name.as_str() => Some(ForgetReason::RenamedByHand),
            Some(_) => None,
        };
        if let Some(reason) = reason {
            // A leased one is forgotten after its lease was revoked (see `leases`); until then its row keeps the slot.
            if database.state != DatabaseState::Leased {
                steps.push(Step::Forget { database: database.id, reason });
            }
            gone.insert(database.id);
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
    for template in snapshot.templates.iter().filter(|t| t.pool == pool.name) {
        let of = |state| databases.iter().copied().filter(move |d| d.template == template.id && d.state == state);
        if template.state != TemplateState::Ready || pool.dropping {
            for database in of(DatabaseState::Ready).chain(of(DatabaseState::Spare)) {
                if !reserved.contains(&database.id) {
                    steps.push(Step::Retire { database: database.id, reason: RetireReason::TemplateRetired });
                }
            }
            for database in of(DatabaseState::Creating).filter(|d| !d.is_cloned()) {
                steps.push(Step::Forget { database: database.id, reason: ForgetReason::NotWanted });
            }
            continue;
        }
        let demand = Demand::of(snapshot, template);
        let peak = context.recent_peak.get(&template.id).copied().unwrap_or(0);
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
        // Surplus leaves from the highest slot down, so that the names in use stay gw0, gw1, …
        ready.sort_by_key(|d| d.slot);
        while ready.len() > desired_ready as usize {
            if let Some(database) = ready.pop() {
                steps.push(Step::Retire { database: database.id, reason: RetireReason::Surplus });
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
            creating: snapshot.databases.iter().filter(|d| d.template == template.id && is_to_be_cloned(d)).collect(),
            desired_ready,
        });
    }
    // Whoever is waited for comes first, then the newest template.
    shares.sort_by_key(|s| std::cmp::Reverse((s.claimed > 0, s.demand.announced > 0, s.demand.newest, s.template.id)));
    shares
}

/// Whether a row still waits for its `create database`; a blocked one counts, so that no further row is made beside it.
fn is_to_be_cloned(database: &Database) -> bool {
    matches!(database.state, DatabaseState::Creating | DatabaseState::Blocked) && !database.is_cloned()
}

/// What makes a spare or ready database unfit to be handed out: others have been in it, or have half dropped it.
pub(super) fn damage(snapshot: &Snapshot, database: &Database) -> Option<RetireReason> {
    let found = database.oid.and_then(|oid| snapshot.server.get(&oid))?;
    if found.invalid {
        Some(RetireReason::HalfDropped)
    } else if found.sessions > 0 || found.sessions_ever > 0 {
        Some(RetireReason::LookedInto)
    } else {
        found.locked_out.then_some(RetireReason::LockedOut)
    }
}

/// Whether a swap of it has failed at the fence: it still has sessions, or could not be closed. It is then fenced apart from the others.
pub(super) fn is_stuck(snapshot: &Snapshot, database: &Database) -> bool {
    let found = database.oid.and_then(|oid| snapshot.server.get(&oid));
    database.attempts > 0 && found.is_some_and(|found| found.open || found.sessions > 0)
}

/// Whether somebody's drop of it was interrupted, so that it can neither be entered nor renamed, only dropped.
fn is_half_dropped(snapshot: &Snapshot, database: &Database) -> bool {
    database.oid.and_then(|oid| snapshot.server.get(&oid)).is_some_and(|found| found.invalid)
}

fn length(databases: &[&Database]) -> u32 {
    u32::try_from(databases.len()).unwrap_or(u32::MAX)
}

fn occupied(leased: u32, shares: &[Share<'_>]) -> u32 {
    leased + shares.iter().map(|s| length(&s.ready)).sum::<u32>()
}

/// Slots that this pool's waiters lack.
fn lacking(shares: &[Share<'_>]) -> u32 {
    shares.iter().map(|s| s.claimed.saturating_sub(length(&s.ready))).sum()
}

/// Makes way for waiters that want the slots 0 to n − 1 and no others: a ready database of another template leaves such a slot,
/// and as many idle ones leave higher slots as there are empty seats below, so that spares enter those. A slot that is leased
/// stays what it is; its waiter waits.
fn seat(snapshot: &Snapshot, pool: &Pool, shares: &mut [Share<'_>], steps: &mut Vec<Step>) {
    for index in 0..shares.len() {
        let template = shares[index].template.id;
        let exact = snapshot.tickets.iter().filter(|t| t.kind == TicketKind::Exact && t.template == template);
        let Some(seats) = exact.map(|ticket| ticket.count).max() else { continue };
        let mut empty = 0_u32;
        for seat in 0..seats {
            if shares[index].ready.iter().any(|d| d.slot == Some(seat)) {
                continue;
            }
            for share in shares.iter_mut() {
                if let Some(at) = share.ready.iter().position(|d| d.slot == Some(seat)) {
                    let other = share.ready.remove(at);
                    steps.push(Step::Retire { database: other.id, reason: RetireReason::MakeRoom });
                }
            }
            let held = |d: &Database| d.pool == pool.name && d.slot == Some(seat) && d.state == DatabaseState::Leased;
            if !snapshot.databases.iter().any(held) {
                empty += 1;
            }
        }
        for _ in 0..empty {
            // Sorted by slot, so the highest goes first.
            let Some(misplaced) = shares[index].ready.pop_if(|d| d.slot >= Some(seats)) else { break };
            steps.push(Step::Retire { database: misplaced.id, reason: RetireReason::MakeRoom });
        }
    }
}

/// Retires ready databases that nobody waits for, least recently used first, until every waiter could have a slot; and any
/// ready database while the pool has more slots than it may have (its `max` was lowered).
fn make_room(leased: u32, capacity: Capacity, shares: &mut [Share<'_>], steps: &mut Vec<Step>) {
    loop {
        let in_use = occupied(leased, shares);
        let too_many = in_use > capacity.most;
        if !too_many && in_use + lacking(shares) <= capacity.idle {
            return;
        }
        let oldest = shares
            .iter()
            .enumerate()
            .flat_map(|(index, s)| {
                let waited_for = s.ready.len() <= s.claimed as usize;
                s.ready.iter().map(move |d| (waited_for, d.ready_at, d.id, index))
            })
            .min()
            .filter(|(waited_for, ..)| too_many || !waited_for);
        let Some((_, _, id, index)) = oldest else { return };
        shares[index].ready.retain(|d| d.id != id);
        steps.push(Step::Retire { database: id, reason: RetireReason::MakeRoom });
    }
}

/// Lets spares enter slots: those being returned and the empty ones, lowest number first. Returns the slots then in use.
fn fill(
    snapshot: &Snapshot,
    pool: &Pool,
    leased: u32,
    capacity: Capacity,
    databases: &[&Database],
    shares: &mut [Share<'_>],
    steps: &mut Vec<Step>,
) -> u32 {
    let leaving = databases.iter().filter(|d| leaves_its_slot(d) && d.due && !is_half_dropped(snapshot, d));
    let (stuck, leaving): (Vec<&Database>, Vec<&Database>) = leaving.partition(|d| is_stuck(snapshot, d));
    steps.extend(stuck.into_iter().map(|d| Step::Fence { database: d.id }));
    let mut returning: BTreeMap<u32, DatabaseId> = leaving.into_iter().filter_map(|d| Some((d.slot?, d.id))).collect();
    // What this plan retires keeps its slot until the next one: it may be granted before it is marked.
    let leaving = length(&in_state(databases, DatabaseState::Ready)).saturating_sub(occupied(leased, shares) - leased);
    let mut in_use = occupied(leased, shares);
    let mut shared_capacity = capacity.most.saturating_sub(in_use);
    // What waiters lack is left free for them, so that an idle database never enters a slot only to make room again.
    let mut idle_room = capacity.idle.saturating_sub(in_use + lacking(shares));
    let mut taken: BTreeSet<u32> =
        snapshot.databases.iter().filter(|d| d.pool == pool.name).filter_map(|d| d.slot).collect();
    // A name that exists on the server without a row of ours belongs to somebody else: that number rests.
    let names: BTreeSet<&str> = snapshot.server.values().map(|found| found.name.as_str()).collect();
    let mut next_free = 0_u32;
    for share in shares.iter_mut() {
        // Waiting resets are served before slots are refilled.
        let for_resets = (share.demand.resets as usize).min(share.spares.len());
        let mut available = share.spares.split_off(for_resets).into_iter();
        let mut has = length(&share.ready);
        while has < share.desired_ready {
            let waited_for = has < share.claimed;
            if shared_capacity <= leaving || (!waited_for && idle_room <= leaving) {
                break;
            }
            let Some(spare) = available.next() else { break };
            while taken.contains(&next_free) || names.contains(DatabaseName::slot(&pool.name, next_free).as_str()) {
                next_free += 1;
            }
            let returned = returning.first_key_value().map(|(&slot, &used)| (slot, used));
            match returned {
                Some((slot, used)) if slot < next_free => {
                    returning.remove(&slot);
                    steps.push(Step::Return { used, spare: Some(spare.id) });
                }
                _ => {
                    taken.insert(next_free);
                    steps.push(Step::Fill { spare: spare.id, slot: next_free });
                }
            }
            has += 1;
            in_use += 1;
            shared_capacity -= 1;
            if !waited_for {
                idle_room -= 1;
            }
        }
        // What is still lacking after the fills, for the clones below.
        let for_waiters = share.claimed.saturating_sub(has).min(shared_capacity);
        let for_idle = share.desired_ready.saturating_sub(has.max(share.claimed)).min(idle_room);
        idle_room -= for_idle;
        share.desired_ready = for_waiters + for_idle;
        share.spares.extend(available);
    }
    for used in returning.into_values() {
        steps.push(Step::Return { used, spare: None });
    }
    in_use + leaving
}

fn in_state<'a>(databases: &[&'a Database], state: DatabaseState) -> Vec<&'a Database> {
    databases.iter().copied().filter(|d| d.state == state).collect()
}

fn leaves_its_slot(database: &Database) -> bool {
    database.slot.is_some()
        && database.is_cloned()
        && matches!(database.state, DatabaseState::Retiring | DatabaseState::Kept | DatabaseState::Blocked)
}

/// Orders clones for what is lacking, starts those that are due, and gives up those that are too many.
/// After [`fill`], a share's `desired_ready` is what is still lacking.
fn clone(
    snapshot: &Snapshot,
    pool: &Pool,
    databases: &[&Database],
    shares: &[Share<'_>],
    shared_capacity: &mut SharedCapacity,
    steps: &mut Vec<Step>,
) {
    for share in shares {
        let lacking = share.desired_ready as usize + share.demand.resets as usize;
        let spares_wanted = if share.demand.is_active() && !pool.dropping { pool.settings.spares as usize } else { 0 };
        let wanted = lacking + spares_wanted;
        let coming = share.creating.len() + share.spares.len();
        if coming < wanted {
            if shared_capacity.has_disk_for(snapshot, share.template) {
                let count = u32::try_from(wanted - coming).unwrap_or(u32::MAX);
                steps.push(Step::NewDatabases { template: share.template.id, count });
            }
        } else {
            let mut surplus = coming - wanted;
            for database in share.creating.iter().rev().take(surplus) {
                if databases.iter().any(|d| d.id == database.id) {
                    steps.push(Step::Forget { database: database.id, reason: ForgetReason::NotWanted });
                }
            }
            surplus = surplus.saturating_sub(share.creating.len());
            for database in share.spares.iter().rev().take(surplus) {
                steps.push(Step::Retire { database: database.id, reason: RetireReason::Surplus });
            }
        }
        let keep = share.creating.len().min(wanted.saturating_sub(share.spares.len()));
        for database in share.creating.iter().take(keep) {
            let idle = databases.iter().any(|d| d.id == database.id);
            if database.due && idle && shared_capacity.has_disk_for(snapshot, share.template) {
                shared_capacity.takes_disk(snapshot, share.template);
                steps.push(Step::Clone { database: database.id });
            }
        }
    }
}

/// Drops what has left its slot, and ends the time of what was kept.
fn retire_and_drop(snapshot: &Snapshot, pool: &Pool, databases: &[&Database], steps: &mut Vec<Step>) {
    for database in databases {
        let half_dropped = is_half_dropped(snapshot, database);
        match database.state {
            DatabaseState::Kept if half_dropped => {
                steps.push(Step::Retire { database: database.id, reason: RetireReason::HalfDropped });
            }
            DatabaseState::Kept if database.slot.is_none() && pool.dropping => {
                steps.push(Step::Retire { database: database.id, reason: RetireReason::PoolDropped });
            }
            DatabaseState::Kept if database.slot.is_none() && database.keep_over => {
                steps.push(Step::Retire { database: database.id, reason: RetireReason::KeptLongEnough });
            }
            DatabaseState::Retiring | DatabaseState::Blocked
                if (database.slot.is_none() || half_dropped) && database.is_cloned() && database.due =>
            {
                steps.push(Step::Drop { database: database.id });
            }
            // A row that was marked before anything was created for it, or whose template went away meanwhile.
            DatabaseState::Retiring if !database.is_cloned() => {
                steps.push(Step::Forget { database: database.id, reason: ForgetReason::NotWanted });
            }
            DatabaseState::Blocked
                if !database.is_cloned()
                    && snapshot.template(database.template).is_none_or(|t| t.state != TemplateState::Ready) =>
            {
                steps.push(Step::Forget { database: database.id, reason: ForgetReason::NotWanted });
            }
            _ => {}
        }
    }
}

/// Live leases of one template, for the planner of templates.
pub(super) fn live_leases(snapshot: &Snapshot, template: TemplateId) -> usize {
    snapshot.leases.iter().filter(|lease| lease.template == template).count()
}
