//! Plans of pools: the number of ready databases and spares, evictions, and limits.

use super::check;
use super::example::{Example, example};
use super::{Step, plan};
use crate::database::DatabaseState;
use crate::name::{DatabaseName, PoolName};
use crate::plan::recently_in_use;
use crate::pool::{Strategy, StrategyChoice};
use crate::request::TicketKind::{Acquire, Exact, Reset};
use crate::snapshot::Limits;
use crate::template::{TemplateId, TemplateState};

#[test]
fn current_template_gets_warm_and_spare_databases() {
    check(&example(3, 5, 2).template(1), &["5 new of 1"]);
    check(&example(3, 5, 2).template(1).creating(10).spare(11), &["fill slot 0 with 11", "3 new of 1", "refill 10"]);
}

#[test]
fn unused_older_template_gets_no_databases() {
    let e = example(1, 4, 1).template(1).ready(10, 0).spare(11).template(2);
    check(&e, &["retire 10: surplus", "retire 11: surplus", "2 new of 2"]);
}

/// Regression: after a migration that was tried and reverted, every lease waited for a clone, because the template built last was the warm
/// one (issue 17, E1).
#[test]
fn template_named_last_is_warm_whatever_was_built_last() {
    let e = example(1, 4, 1).template(1).template(2).ready(20, 0).spare(21).current(1);
    check(&e, &["retire 20: surplus", "retire 21: surplus", "2 new of 1"]);
    // A template that is gone was the current one: the newest counts.
    check(&example(1, 4, 0).template(1).template(2).current(9), &["1 new of 2"]);
}

#[test]
fn templates_of_two_branches_in_alternation_are_both_warm() {
    let e = example(2, 9, 1).template(1).ready(10, 0).ready(11, 1).spare(12).template(2).current(2);
    check(&e.clone().peak(1, 1), &["3 new of 2"]);
    check(&e, &["retire 11: surplus", "retire 10: surplus", "retire 12: surplus", "3 new of 2"]);
}

#[test]
fn ready_databases_count_as_recent_use_after_a_restart() {
    let e = example(1, 4, 0).template(1).ready(10, 0).template(2).ready(20, 1).template(3).current(2);
    assert_eq!(recently_in_use(&e.snapshot).into_iter().collect::<Vec<_>>(), [(TemplateId(1), 1)]);
}

#[test]
fn older_template_with_a_lease_stays_warm() {
    let e = example(1, 9, 1).template(1).leased(10, 0).template(2).ready(20, 1).spare(21);
    check(&e, &["2 new of 1"]);
}

#[test]
fn older_template_with_an_announced_run_stays_warm() {
    let e = example(0, 9, 0).template(1).template(2);
    check(&e, &[]);
    check(&e.announced(Some(1), 3, 1), &["2 new of 1"]);
}

#[test]
fn announcement_without_fingerprint_counts_for_the_current_template() {
    check(&example(0, 9, 0).template(1).template(2).announced(None, 4, 0), &["4 new of 2"]);
}

#[test]
fn tickets_and_announcements_are_not_added_up() {
    let e = example(1, 9, 0).template(1).announced(Some(1), 3, 0).waiting(1, Acquire, 2);
    check(&e, &["3 new of 1"]);
}

#[test]
fn ready_databases_follow_the_recent_peak() {
    let full = example(1, 9, 0).template(1).ready(10, 0).ready(11, 1).ready(12, 2);
    check(&full.clone().peak(1, 3), &[]);
    check(&full.clone().peak(1, 2), &["retire 12: surplus"]);
    check(&full, &["retire 12: surplus", "retire 11: surplus"]);
}

#[test]
fn max_limits_ready_and_leased_but_not_spares() {
    let e = example(3, 3, 2).template(1).leased(10, 0).leased(11, 1).ready(12, 2).spare(13).spare(14);
    check(&e, &[]);
}

#[test]
fn lease_of_a_retiring_template_counts_against_max() {
    let e = example(2, 2, 0)
        .template(1)
        .leased(10, 0)
        .change_template(1, |t| t.state = TemplateState::Retiring)
        .template(2)
        .ready(20, 1)
        .spare(21);
    check(&e, &["retire 21: surplus", "drop template 1"]);
}

#[test]
fn fill_takes_the_lowest_empty_slots() {
    let e = example(3, 3, 0).template(1).ready(10, 1).spare(11).spare(12);
    check(&e, &["fill slot 0 with 11", "fill slot 2 with 12"]);
}

#[test]
fn fill_skips_slot_whose_name_is_taken() {
    let e = example(2, 2, 0).template(1).spare(10).spare(11).other(7, "app_gw0", false);
    check(&e, &["fill slot 1 with 10", "fill slot 2 with 11"]);
}

#[test]
fn fill_skips_slot_of_a_blocked_database() {
    let e = example(1, 1, 0).template(1).in_slot(10, DatabaseState::Blocked, 0).not_due(10).spare(11);
    check(&e, &["fill slot 1 with 11"]);
}

#[test]
fn ticket_evicts_the_least_recently_used_idle_database() {
    let e = example(2, 3, 0).template(1).spare(5).template(2).ready(20, 2).ready(21, 0).ready(22, 1);
    check(&e.peak(2, 3).waiting(1, Acquire, 1), &["retire 20: evicted"]);
}

#[test]
fn ticket_does_not_evict_a_database_claimed_by_another() {
    let e = example(2, 2, 0).template(1).template(2).ready(20, 0).ready(21, 1);
    check(&e.waiting(2, Acquire, 2).waiting(1, Acquire, 1), &[]);
}

/// Regression: an idle database entered the slot that a ticket needed, and was evicted again (found by `scenarios`).
#[test]
fn idle_spare_does_not_fill_a_slot_needed_by_a_ticket() {
    let e = example(2, 2, 0).template(1).creating(10).template(2).ready(20, 0).spare(21);
    check(&e.waiting(1, Acquire, 1), &["retire 21: surplus", "clone 10"]);
}

/// Regression: two batches each held a part of the pool and waited for the rest (found by `scenarios`).
#[test]
fn batches_get_slots_in_ticket_order_without_deadlock() {
    let e = example(0, 2, 0).template(1).ready(10, 0).template(2).ready(20, 1);
    check(&e.clone().waiting(1, Acquire, 2).waiting(2, Acquire, 2), &["retire 20: evicted", "1 new of 1"]);
    check(&e.waiting(2, Acquire, 2).waiting(1, Acquire, 2), &["retire 10: evicted", "1 new of 2"]);
}

#[test]
fn batch_above_max_delays_no_other_ticket() {
    let e = example(0, 1, 0).template(1).ready(10, 0).template(2);
    check(&e.waiting(1, Acquire, 2).waiting(2, Acquire, 1), &["retire 10: evicted", "1 new of 2"]);
}

#[test]
fn lowered_max_evicts_even_claimed_databases() {
    let e = example(1, 1, 0).template(1).ready(10, 0).ready(11, 1).waiting(1, Acquire, 2);
    check(&e, &["retire 11: evicted"]);
}

#[test]
fn slots_go_to_tickets_then_to_the_current_template() {
    let e = example(1, 1, 0).template(1).spare(10).template(2).spare(20);
    check(&e.clone().waiting(1, Acquire, 1), &["fill slot 0 with 10", "retire 20: surplus"]);
    check(&e, &["fill slot 0 with 20", "retire 10: surplus"]);
}

#[test]
fn waiting_reset_gets_a_spare_before_empty_slots() {
    let e = example(1, 3, 0).template(1).leased(10, 0).spare(11);
    check(&e, &["fill slot 1 with 11"]);
    check(&e.waiting(1, Reset, 1), &["1 new of 1"]);
}

/// Regression: a retirement could take a spare that a reset had just reserved (found by the conformance suite).
#[test]
fn reserved_spare_is_used_only_by_its_reset() {
    let e = example(1, 3, 0).template(1).leased(10, 0).spare(11).resetting(10, 11);
    check(&e, &["reset lease 10: 10 by 11", "1 new of 1"]);
    let surplus = example(0, 3, 0).template(1).leased(10, 0).spare(11).resetting(10, 11);
    check(&surplus, &["reset lease 10: 10 by 11"]);
}

#[test]
fn surplus_spares_leave_rows_first_then_newest_first() {
    let e = example(0, 3, 1).template(1).spare(10).spare(11).creating(12);
    check(&e, &["forget 12: not needed", "retire 11: surplus"]);
}

#[test]
fn below_disk_floor_slots_fill_but_no_clone_starts() {
    let mut e = example(2, 2, 1).template(1).spare(10).creating(11);
    e.snapshot.limits = Limits { free_disk_bytes: Some(9), disk_floor_bytes: 10, ..Limits::default() };
    check(&e, &["fill slot 0 with 10"]);
    e.snapshot.limits.free_disk_bytes = Some(10);
    check(&e, &["fill slot 0 with 10", "1 new of 1", "refill 11"]);
}

/// Regression: concurrent clones filled the disk below its floor (found with a small disk).
#[test]
fn clones_start_only_while_the_disk_stays_above_floor() {
    let copied = |strategy| {
        let mut e = example(0, 9, 4).template(1).creating(10).creating(11).creating(12).creating(13).busy(10);
        e = e.change_template(1, |t| (t.size_bytes, t.strategy) = (Some(100), strategy));
        e.snapshot.limits = Limits { free_disk_bytes: Some(1310), disk_floor_bytes: 1000, ..Limits::default() };
        e
    };
    // One clone is in progress, so two more fit; with WAL_LOG each uses its size twice.
    check(&copied(Some(Strategy::FileCopy)), &["refill 11", "refill 12"]);
    check(&copied(Some(Strategy::WalLog)), &[]);
    check(&copied(None), &[]);
    let mut fixed = copied(None);
    fixed.last_pool().settings.strategy = StrategyChoice::Fixed(Strategy::FileCopy);
    check(&fixed, &["refill 11", "refill 12"]);
    fixed.snapshot.limits.free_disk_bytes = Some(1100);
    assert!(!fixed.snapshot.disk_is_short_for(TemplateId(1)), "just enough");
    fixed.snapshot.limits.free_disk_bytes = Some(1099);
    assert!(fixed.snapshot.disk_is_short_for(TemplateId(1)), "the timeout of a request states this cause");
}

#[test]
fn max_connections_lowers_max() {
    let mut e = example(4, 4, 0).template(1).ready(10, 0).spare(11).spare(12);
    e.snapshot.limits.slots_by_connections = Some(2);
    check(&e, &["fill slot 1 with 11", "retire 12: surplus"]);
}

#[test]
fn pools_share_the_slots_that_max_connections_allows() {
    let mut e = example(2, 2, 0).template(1).spare(10).spare(11).pool("web", 2, 2, 0).template(2).spare(20).spare(21);
    e.snapshot.limits.slots_by_connections = Some(3);
    check(&e, &["fill slot 0 with 10", "fill slot 1 with 11", "fill slot 0 with 20", "retire 21: surplus"]);
}

#[test]
fn ticket_evicts_idle_databases_of_another_pool() {
    let mut e = example(2, 2, 0).template(1).ready(10, 0).ready(11, 1).pool("web", 0, 2, 0).template(2);
    e = e.waiting(2, Acquire, 1);
    e.snapshot.limits.slots_by_connections = Some(2);
    check(&e, &["retire 10: evicted"]);
    // The evicted database keeps its slot until it is retiring; the clone follows then.
    let retired = e.change(10, |d| d.state = DatabaseState::Retiring);
    check(&retired, &["return 10", "1 new of 2"]);
}

#[test]
fn blocked_clone_is_retried_and_not_replaced() {
    let e = example(1, 1, 0).template(1).creating(10).change(10, |d| d.state = DatabaseState::Blocked);
    check(&e, &["refill 10"]);
    check(&e.not_due(10), &[]);
}

/// Regression: a kept database prevented the deletion of its dropped pool (found by `scenarios`).
#[test]
fn dropped_pool_retires_everything_then_its_row() {
    let e =
        example(1, 4, 1).template(1).ready(10, 0).spare(11).creating(12).retiring(13, 1).kept(14).old(15).dropping();
    check(
        &e,
        &[
            "return 13",
            "retire 10: template retired",
            "retire 11: template retired",
            "forget 12: not needed",
            "retire 14: pool dropped",
            "retire template 1: pool dropped",
            "drop 15",
        ],
    );
    check(&example(1, 4, 1).dropping(), &["forget pool app"]);
    check(&example(1, 4, 1).building(1).dropping(), &["fail build 1: its pool was dropped"]);
}

/// Regression: a ticket for exact slots (`run --workers`) starved while idle databases were in other slots, because tickets
/// had only a count (found by following the README).
#[test]
fn exact_ticket_moves_idle_database_from_higher_slot() {
    // Two databases are ready, as `warm` requires, but slot 0 is empty: without the eviction the plan would be empty.
    let e = example(2, 4, 1).template(1).ready(10, 1).ready(11, 2).spare(12).waiting(1, Exact, 2);
    check(&e, &["fill slot 0 with 12", "retire 11: evicted", "1 new of 1"]);
    let placed = example(2, 4, 0).template(1).ready(10, 0).ready(11, 1).waiting(1, Exact, 2);
    check(&placed, &[]);
}

#[test]
fn exact_ticket_evicts_idle_databases_of_another_template() {
    let e = example(1, 4, 0).template(2).ready(20, 0).template(1).ready(10, 1).waiting(1, Exact, 1);
    check(&e, &["retire 20: evicted", "retire 10: evicted", "1 new of 1", "1 new of 2"]);
}

#[test]
fn exact_ticket_does_not_evict_a_leased_database() {
    let e = example(1, 4, 0).template(1).leased(10, 0).ready(11, 1).waiting(1, Exact, 1);
    check(&e, &[]);
}

const DAY: u64 = 24 * 3600;

#[test]
fn pool_unused_for_a_day_keeps_its_template_alone() {
    let e = example(2, 4, 1).template(1).ready(10, 0).ready(11, 1).spare(12).creating(13);
    let idle = e.clone().pool_unused_for(DAY);
    check(
        &idle,
        &["retire 11: pool unused", "retire 10: pool unused", "forget 13: not needed", "retire 12: pool unused"],
    );
    check(
        &idle.peak(1, 1),
        &["retire 11: pool unused", "retire 10: pool unused", "forget 13: not needed", "retire 12: pool unused"],
    );
    check(&e.pool_unused_for(DAY - 1), &["forget 13: not needed"]);
    check(&example(2, 4, 1).template(1).pool_unused_for(DAY), &[]);
}

#[test]
fn pool_setting_decides_when_an_unused_pool_shrinks() {
    let mut e = example(1, 4, 0).template(1).ready(10, 0).pool_unused_for(60);
    e.last_pool().settings.idle_pool_seconds = 60;
    check(&e, &["retire 10: pool unused"]);
    e.last_pool().settings.idle_pool_seconds = 61;
    check(&e, &[]);
}

#[test]
fn unused_pool_is_warm_again_for_any_use() {
    let cold = || example(2, 4, 1).template(1).pool_unused_for(DAY);
    check(&cold().waiting(1, Acquire, 1), &["3 new of 1"]);
    check(&cold().waiting(1, Reset, 1), &["4 new of 1"]);
    check(&cold().announced(Some(1), 1, 0), &["3 new of 1"]);
    check(&cold().announced(None, 1, 0), &["3 new of 1"]);
    check(&cold().leased(10, 0), &["3 new of 1"]);
    check(&cold().pool_unused_for(0), &["3 new of 1"]);
}

#[test]
fn other_pool_in_use_leaves_an_unused_one_cold() {
    let e = example(2, 4, 1).template(1).pool_unused_for(DAY).pool("web", 1, 4, 0).template(2).leased(20, 0);
    check(&e, &["1 new of 2"]);
}

#[test]
fn ready_databases_move_to_lowest_slots_at_rest() {
    let e = example(4, 8, 0).template(1).ready(11, 1).ready(12, 2).ready(13, 3).ready(14, 4);
    check(&e, &["move 14 to slot 0"]);
    let e = example(2, 8, 0).template(1).ready(16, 6).ready(17, 7);
    check(&e, &["move 17 to slot 0", "move 16 to slot 1"]);
    check(&example(2, 8, 0).template(1).ready(10, 0).ready(11, 1), &[]);
}

#[test]
fn move_leaves_out_slots_in_use() {
    let e = example(1, 8, 0).template(1).ready(14, 4).in_slot(10, DatabaseState::Blocked, 0).not_due(10);
    check(&e.clone().other(7, "app_gw1", false), &["move 14 to slot 2"]);
    check(&e.not_due(14), &[]);
}

#[test]
fn nothing_moves_while_a_request_waits_or_a_slot_is_filled() {
    let e = || example(1, 8, 0).template(1).ready(14, 4);
    check(&e(), &["move 14 to slot 0"]);
    check(&e().waiting(1, Acquire, 1), &[]);
    check(&e().leased(11, 1), &[]);
    check(&e().retiring(10, 0), &["return 10"]);
    check(&example(2, 8, 0).template(1).ready(14, 4).spare(15), &["fill slot 0 with 15"]);
    check(&example(2, 8, 0).template(1).ready(14, 4).creating(15), &["refill 15"]);
}

#[test]
fn announced_run_gets_lowest_slots_beside_leases() {
    let e = example(2, 8, 0).template(1).leased(10, 0).ready(16, 6).ready(17, 7);
    check(&e, &[]);
    check(&e.announced(None, 2, 0), &["move 17 to slot 1", "move 16 to slot 2"]);
}

#[test]
fn announced_run_exchanges_slots_with_another_template() {
    let e = example(2, 8, 0).template(1).ready(12, 2).ready(13, 3).template(2).ready(20, 0).ready(21, 1);
    check(&e.announced(Some(1), 2, 0), &["move 13 to slot 0, 20 makes room", "move 12 to slot 1, 21 makes room"]);
}

#[test]
fn moves_come_to_an_end() {
    let mut e = example(2, 8, 0).template(1).ready(12, 2).ready(17, 7).template(2).ready(20, 1).ready(21, 4);
    e = e.announced(Some(1), 2, 0);
    for round in 0.. {
        let steps = plan(&e.snapshot, &e.context);
        if steps.is_empty() {
            break;
        }
        assert!(round < 5, "{steps:?}");
        for step in steps {
            let Step::Move { database, slot, displaced } = step else { panic!("{step:?}") };
            let left = e.snapshot.database(database).unwrap().slot;
            let place = |e: Example, id: i64, slot: u32| {
                let name = DatabaseName::slot(&PoolName::parse("app").unwrap(), slot);
                let text = name.as_str().to_owned();
                e.change(id, |d| (d.slot, d.name) = (Some(slot), name)).on_server(id, |found| found.name = text)
            };
            e = place(e, database.0, slot);
            if let Some(other) = displaced {
                e = place(e, other.0, left.unwrap());
            }
        }
    }
    let slots = e.snapshot.databases.iter().map(|d| (d.id.0, d.slot.unwrap()));
    let mut of_first: Vec<u32> = slots.filter(|(id, _)| *id < 20).map(|(_, slot)| slot).collect();
    of_first.sort_unstable();
    assert_eq!(of_first, [0, 1]);
}

#[test]
fn clones_are_awaited_for_as_many_requests_as_wait() {
    let e = example(4, 8, 0).template(1).creating(10).creating(11).creating(12).creating(13);
    let waiting = e.waiting(1, Acquire, 2);
    check(&waiting, &["clone 10", "clone 11", "refill 12", "refill 13"]);
    check(&waiting.clone().busy(10), &["clone 11", "refill 12", "refill 13"]);
    let reset = example(1, 8, 1).template(1).leased(10, 0).waiting(1, Reset, 1).creating(11).creating(12);
    check(&reset, &["1 new of 1", "clone 11", "refill 12"]);
}
