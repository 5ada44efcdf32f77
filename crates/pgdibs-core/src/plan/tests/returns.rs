//! Plans of databases: returns, keeps, drops, and external changes.

use super::check;
use super::example::{Example, example};
use crate::database::DatabaseState;
use crate::snapshot::ServerDatabase;
use crate::template::TemplateState;

#[test]
fn return_swaps_the_used_database_for_a_spare() {
    check(&example(1, 1, 0).template(1).retiring(10, 0).spare(11), &["return 10, 11 enters"]);
}

#[test]
fn return_without_a_spare_leaves_the_slot_empty() {
    check(&example(1, 1, 0).template(1).retiring(10, 0), &["return 10", "1 new of 1"]);
}

#[test]
fn return_brings_no_spare_into_an_unneeded_slot() {
    check(&example(0, 1, 1).template(1).retiring(10, 0).spare(11), &["return 10"]);
}

#[test]
fn spares_enter_the_lowest_slot_first_empty_or_returned() {
    let e = example(2, 4, 0).template(1).retiring(10, 1).spare(11).spare(12);
    check(&e, &["return 10, 12 enters", "fill slot 0 with 11"]);
}

#[test]
fn used_database_outside_a_slot_is_dropped() {
    check(&example(0, 1, 0).template(1).old(10), &["drop 10"]);
}

#[test]
fn kept_database_leaves_its_slot_and_retires_in_time() {
    let in_slot = example(1, 1, 0).template(1).in_slot(10, DatabaseState::Kept, 0).spare(11);
    check(&in_slot, &["return 10, 11 enters"]);
    let kept = example(0, 1, 0).template(1).kept(10);
    check(&kept, &[]);
    check(&kept.change(10, |d| d.keep_expired = true), &["retire 10: keep expired"]);
}

#[test]
fn blocked_database_retries_its_failed_step() {
    check(&example(0, 1, 0).template(1).in_slot(10, DatabaseState::Blocked, 0), &["return 10"]);
    let outside = example(0, 1, 0).template(1).old(10).change(10, |d| d.state = DatabaseState::Blocked);
    check(&outside, &["drop 10"]);
    let never_made = example(0, 1, 0)
        .template(1)
        .creating(10)
        .change(10, |d| d.state = DatabaseState::Blocked)
        .change_template(1, |t| t.state = TemplateState::Retiring);
    check(&never_made, &["forget 10: not needed"]);
}

#[test]
fn unleased_database_with_a_session_retires() {
    let e = example(1, 1, 0).template(1).ready(10, 0);
    check(&e.clone().on_server(10, |s| s.sessions = 1), &["retire 10: tampered", "1 new of 1"]);
    check(&e.on_server(10, |s| s.sessions_ever = 1), &["retire 10: tampered", "1 new of 1"]);
    let spare = example(0, 1, 1).template(1).spare(10);
    check(&spare.clone().on_server(10, |s| s.sessions_ever = 1), &["retire 10: tampered", "1 new of 1"]);
    check(&spare.on_server(10, |s| s.sessions = 1), &["retire 10: tampered", "1 new of 1"]);
}

#[test]
fn unleased_database_without_usable_login_retires() {
    let locked = |s: &mut ServerDatabase| s.locked_out = true;
    let ready = example(1, 1, 0).template(1).ready(10, 0).on_server(10, locked);
    check(&ready, &["retire 10: locked out", "1 new of 1"]);
    let reserved = example(0, 1, 0).template(1).leased(10, 0).spare(11).resetting(10, 11).on_server(11, locked);
    check(&reserved, &["retire 11: locked out"]);
}

#[test]
fn used_database_with_remaining_sessions_is_fenced_separately() {
    let stuck = |e: Example| e.on_server(10, |s| (s.open, s.sessions) = (false, 1)).change(10, |d| d.attempts = 1);
    let e = stuck(example(1, 2, 0).template(1).retiring(10, 0).retiring(12, 1).spare(11));
    check(&e, &["fence 10", "return 12, 11 enters"]);
    // The first swap ends the sessions itself, and a fenced database has none.
    let first = example(1, 1, 0).template(1).retiring(10, 0).spare(11).on_server(10, |s| s.sessions = 1);
    check(&first, &["return 10, 11 enters"]);
    check(&e.clone().on_server(10, |s| (s.open, s.sessions) = (true, 0)), &["fence 10", "return 12, 11 enters"]);
    check(&e.on_server(10, |s| s.sessions = 0), &["return 10, 11 enters", "return 12"]);
    let resetting = example(0, 1, 0).template(1).leased(10, 0).spare(11).resetting(10, 11);
    check(&stuck(resetting), &["fence 10"]);
}

#[test]
fn database_dropped_or_renamed_externally_is_forgotten_and_replaced() {
    let e = example(1, 1, 1).template(1).ready(10, 0).spare(11);
    check(&e.clone().vanished(10), &["fill slot 1 with 11", "forget 10: vanished", "1 new of 1"]);
    let renamed = e.clone().on_server(10, |s| s.name = "mine".to_owned());
    check(&renamed, &["fill slot 1 with 11", "forget 10: renamed", "1 new of 1"]);
    check(&e.vanished(11), &["forget 11: vanished", "1 new of 1"]);
    check(&example(0, 1, 0).template(1).retiring(10, 0).vanished(10), &["forget 10: vanished"]);
}

#[test]
fn database_with_another_oid_is_not_adopted() {
    let e = example(0, 1, 0).template(1).old(10).vanished(10).other(7, "app_old_10", true);
    check(&e, &["forget 10: vanished"]);
}

#[test]
fn unrecorded_database_is_adopted_by_its_name() {
    let e = example(0, 1, 1).template(1).creating(10).other(7, "app_spare_10", true);
    check(&e, &["adopt 10 at oid 7"]);
}

#[test]
fn row_whose_name_is_taken_is_forgotten() {
    let e = example(0, 1, 1).template(1).creating(10).other(7, "app_spare_10", false);
    check(&e, &["forget 10: not needed"]);
}

#[test]
fn invalid_database_is_only_dropped() {
    let invalid = |s: &mut ServerDatabase| s.invalid = true;
    let ready = example(1, 1, 0).template(1).ready(10, 0).on_server(10, invalid);
    check(&ready, &["retire 10: invalid", "1 new of 1"]);
    let retiring = example(0, 1, 0).template(1).retiring(10, 0).on_server(10, invalid);
    check(&retiring, &["drop 10"]);
    let spare = example(0, 1, 1).template(1).spare(10).on_server(10, invalid);
    check(&spare, &["retire 10: invalid", "1 new of 1"]);
    let reserved = example(0, 1, 0).template(1).leased(10, 0).spare(11).resetting(10, 11).on_server(11, invalid);
    check(&reserved, &["retire 11: invalid"]);
    check(&example(0, 1, 0).template(1).kept(10).on_server(10, invalid), &["retire 10: invalid"]);
}
