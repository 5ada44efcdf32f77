//! Databases on their way: returns, keeps, drops, and what other hands did to them.

use super::check;
use super::example::example;
use crate::database::DatabaseState;

#[test]
fn a_used_database_leaves_its_slot_and_a_spare_enters_in_the_same_step() {
    check(&example(1, 1, 0).template(1).retiring(10, 0).spare(11), &["return 10, 11 enters"]);
}

#[test]
fn without_a_spare_the_slot_stays_empty() {
    check(&example(1, 1, 0).template(1).retiring(10, 0), &["return 10", "1 new of 1"]);
}

#[test]
fn a_used_database_whose_slot_is_not_wanted_leaves_alone() {
    check(&example(0, 1, 1).template(1).retiring(10, 0).spare(11), &["return 10"]);
}

#[test]
fn the_lowest_number_is_filled_first_whether_empty_or_returned() {
    let e = example(2, 4, 0).template(1).retiring(10, 1).spare(11).spare(12);
    check(&e, &["return 10, 12 enters", "fill slot 0 with 11"]);
}

#[test]
fn a_used_database_outside_its_slot_is_dropped() {
    check(&example(0, 1, 0).template(1).old(10), &["drop 10"]);
}

#[test]
fn a_kept_database_leaves_its_slot_and_stays_until_its_time_is_over() {
    let in_slot = example(1, 1, 0).template(1).in_slot(10, DatabaseState::Kept, 0).spare(11);
    check(&in_slot, &["return 10, 11 enters"]);
    let kept = example(0, 1, 0).template(1).kept(10);
    check(&kept, &[]);
    check(&kept.change(10, |d| d.keep_over = true), &["retire 10: kept long enough"]);
}

#[test]
fn a_blocked_database_goes_on_where_it_stood() {
    check(&example(0, 1, 0).template(1).in_slot(10, DatabaseState::Blocked, 0), &["return 10"]);
    let outside = example(0, 1, 0).template(1).old(10).change(10, |d| d.state = DatabaseState::Blocked);
    check(&outside, &["drop 10"]);
    let never_made = example(0, 1, 0)
        .template(1)
        .creating(10)
        .change(10, |d| d.state = DatabaseState::Blocked)
        .change_template(1, |t| t.state = crate::template::TemplateState::Retiring);
    check(&never_made, &["forget 10: not wanted"]);
}

#[test]
fn a_ready_database_that_was_looked_into_is_retired() {
    let e = example(1, 1, 0).template(1).ready(10, 0);
    check(&e.clone().on_server(10, |s| s.sessions = 1), &["retire 10: looked into", "1 new of 1"]);
    check(&e.on_server(10, |s| s.sessions_ever = 1), &["retire 10: looked into", "1 new of 1"]);
    let spare = example(0, 1, 1).template(1).spare(10);
    check(&spare.clone().on_server(10, |s| s.sessions_ever = 1), &["retire 10: looked into", "1 new of 1"]);
    check(&spare.on_server(10, |s| s.sessions = 1), &["retire 10: looked into", "1 new of 1"]);
}

#[test]
fn a_ready_database_whose_login_is_locked_out_is_retired() {
    let locked = |s: &mut crate::snapshot::ServerDatabase| s.locked_out = true;
    let ready = example(1, 1, 0).template(1).ready(10, 0).on_server(10, locked);
    check(&ready, &["retire 10: locked out", "1 new of 1"]);
    let reserved = example(0, 1, 0).template(1).leased(10, 0).spare(11).resetting(10, 11).on_server(11, locked);
    check(&reserved, &["retire 11: locked out"]);
}

#[test]
fn a_used_database_that_could_not_be_fenced_is_fenced_apart() {
    let stuck = |e: super::example::Example| {
        e.on_server(10, |s| (s.open, s.sessions) = (false, 1)).change(10, |d| d.attempts = 1)
    };
    let e = stuck(example(1, 2, 0).template(1).retiring(10, 0).retiring(12, 1).spare(11));
    check(&e, &["fence 10", "return 12, 11 enters"]);
    // The first attempt ends what is there by itself, and a fenced one has no sessions.
    let first = example(1, 1, 0).template(1).retiring(10, 0).spare(11).on_server(10, |s| s.sessions = 1);
    check(&first, &["return 10, 11 enters"]);
    check(&e.clone().on_server(10, |s| (s.open, s.sessions) = (true, 0)), &["fence 10", "return 12, 11 enters"]);
    check(&e.on_server(10, |s| s.sessions = 0), &["return 10, 11 enters", "return 12"]);
    let resetting = example(0, 1, 0).template(1).leased(10, 0).spare(11).resetting(10, 11);
    check(&stuck(resetting), &["fence 10"]);
}

#[test]
fn what_somebody_dropped_or_renamed_is_forgotten_and_replaced() {
    let e = example(1, 1, 1).template(1).ready(10, 0).spare(11);
    check(&e.clone().vanished(10), &["fill slot 1 with 11", "forget 10: vanished", "1 new of 1"]);
    let renamed = e.clone().on_server(10, |s| s.name = "mine".to_owned());
    check(&renamed, &["fill slot 1 with 11", "forget 10: renamed", "1 new of 1"]);
    check(&e.vanished(11), &["forget 11: vanished", "1 new of 1"]);
    check(&example(0, 1, 0).template(1).retiring(10, 0).vanished(10), &["forget 10: vanished"]);
}

#[test]
fn another_database_under_the_name_of_one_that_vanished_is_not_ours() {
    let e = example(0, 1, 0).template(1).old(10).vanished(10).other(7, "app_old_10", true);
    check(&e, &["forget 10: vanished"]);
}

#[test]
fn a_database_whose_creator_died_is_adopted_by_its_name() {
    let e = example(0, 1, 1).template(1).creating(10).other(7, "app_spare_10", true);
    check(&e, &["adopt 10 at oid 7"]);
}

#[test]
fn a_row_whose_name_somebody_else_took_makes_way_for_another_number() {
    let e = example(0, 1, 1).template(1).creating(10).other(7, "app_spare_10", false);
    check(&e, &["forget 10: not wanted"]);
}

#[test]
fn a_half_dropped_database_can_only_be_dropped() {
    let half = |s: &mut crate::snapshot::ServerDatabase| s.invalid = true;
    let ready = example(1, 1, 0).template(1).ready(10, 0).on_server(10, half);
    check(&ready, &["retire 10: half dropped", "1 new of 1"]);
    let retiring = example(0, 1, 0).template(1).retiring(10, 0).on_server(10, half);
    check(&retiring, &["drop 10"]);
    let spare = example(0, 1, 1).template(1).spare(10).on_server(10, half);
    check(&spare, &["retire 10: half dropped", "1 new of 1"]);
    let reserved = example(0, 1, 0).template(1).leased(10, 0).spare(11).resetting(10, 11).on_server(11, half);
    check(&reserved, &["retire 11: half dropped"]);
    check(&example(0, 1, 0).template(1).kept(10).on_server(10, half), &["retire 10: half dropped"]);
}
