//! Plans which ready databases move to lower slots, so that worker `gwN` of a single run gets slot N.
//!
//! A move takes a ready database from callers for some milliseconds, so none is planned while a caller waits or a slot is being filled.
//! Every move lowers a database of the first template that has one to move, so the moves come to an end.

use std::collections::BTreeSet;

use super::share::Share;
use super::step::Step;
use crate::database::Database;
use crate::name::DatabaseName;
use crate::pool::Pool;
use crate::request::TicketKind;
use crate::snapshot::Snapshot;

pub(super) fn plan(snapshot: &Snapshot, pool: &Pool, leased: u32, shares: &[Share<'_>], steps: &mut Vec<Step>) {
    let waits = snapshot.tickets.iter().any(|t| t.pool == pool.name && t.kind != TicketKind::Reset);
    // The spares that a template still gets enter the empty slots.
    let is_filling = shares.iter().any(|share| share.desired_ready > 0);
    if waits || is_filling {
        return;
    }
    let mut occupied: BTreeSet<u32> =
        snapshot.databases.iter().filter(|d| d.pool == pool.name).filter_map(|d| d.slot).collect();
    let names: BTreeSet<&str> = snapshot.server.values().map(|found| found.name.as_str()).collect();
    let mut lowest = 0_u32;
    // At rest all move, otherwise those of announced runs: beside leases, slots become empty and fill all the time.
    for share in shares.iter().filter(|share| leased == 0 || share.demand.announced > 0) {
        let mut ready = movable(share);
        while let Some(database) = ready.pop() {
            while occupied.contains(&lowest) || names.contains(DatabaseName::slot(&pool.name, lowest).as_str()) {
                lowest += 1;
            }
            if database.slot <= Some(lowest) {
                break;
            }
            occupied.insert(lowest);
            steps.push(Step::Move { database: database.id, slot: lowest, displaced: None });
        }
    }
    if occupied.len() == occupied_before(snapshot, pool) {
        exchange(shares, steps);
    }
}

fn occupied_before(snapshot: &Snapshot, pool: &Pool) -> usize {
    snapshot.databases.iter().filter(|d| d.pool == pool.name && d.slot.is_some()).count()
}

/// The databases of a template that may move, by slot.
fn movable<'a>(share: &Share<'a>) -> Vec<&'a Database> {
    share.ready.iter().copied().filter(|d| d.due).collect()
}

/// Exchanges the slots of databases for announced runs with lower ones of templates that no run has announced.
fn exchange(shares: &[Share<'_>], steps: &mut Vec<Step>) {
    let (announced, others): (Vec<_>, Vec<_>) = shares.iter().partition(|share| share.demand.announced > 0);
    let mut others: Vec<&Database> = others.into_iter().flat_map(movable).collect();
    others.sort_by_key(|d| std::cmp::Reverse(d.slot));
    for share in announced {
        let mut ready = movable(share);
        ready.truncate(share.demand.announced as usize);
        while let (Some(database), Some(other)) = (ready.pop(), others.pop()) {
            let Some(slot) = other.slot.filter(|_| other.slot < database.slot) else {
                others.push(other);
                break;
            };
            steps.push(Step::Move { database: database.id, slot, displaced: Some(other.id) });
        }
    }
}
