//! Plans of templates: builds, seals, failures, retirements and drops.

use super::check;
use super::example::{Example, example};
use crate::request::TicketKind;
use crate::template::TemplateState;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[test]
fn build_is_created_then_sealed_on_request() {
    let e = example(1, 1, 0).building(1);
    check(&e.clone().change_template(1, |t| t.oid = None), &["create build 1"]);
    check(&e, &[]);
    check(&e.change_template(1, |t| t.seal_requested = true), &["seal 1"]);
}

#[test]
fn build_of_a_silent_builder_fails_unless_seal_requested() {
    let e = example(1, 1, 0).building(1).change_template(1, |t| t.builder_silent = true);
    let reason = "fail build 1: its builder (ci-7) neither renewed the build nor had a session on its database for 60 \
                  seconds; PUT the template to build it again";
    check(&e, &[reason]);
    check(&e.change_template(1, |t| t.seal_requested = true), &["seal 1"]);
}

/// Regression: a template could not be built again while the one with the same name was being dropped (found by `scenarios`).
#[test]
fn seal_waits_for_the_drop_of_the_template_with_its_name() {
    let mut e = example(0, 1, 0)
        .template(1)
        .kept(10)
        .change_template(1, |t| t.state = TemplateState::Retiring)
        .building(2)
        .change_template(2, |t| t.seal_requested = true);
    e.snapshot.templates[1].fingerprint = e.snapshot.templates[0].fingerprint.clone();
    check(&e, &["drop template 1"]);
    check(&e.change_template(1, |t| t.oid = None), &["seal 2"]);
}

#[test]
fn retiring_template_is_dropped_after_its_last_clone() {
    let retiring = |e: Example| e.change_template(1, |t| t.state = TemplateState::Retiring);
    check(&retiring(example(0, 1, 0).template(1)), &["drop template 1"]);
    check(&retiring(example(0, 1, 0).template(1).kept(10)), &["drop template 1"]);
    check(&retiring(example(0, 1, 0).template(1).creating(10)).busy(10), &[]);
    let without_database = |e: Example| e.change_template(1, |t| t.oid = None);
    check(&without_database(retiring(example(0, 1, 0).template(1).kept(10))), &[]);
    check(&without_database(retiring(example(0, 1, 0).template(1))), &["drop template 1"]);
}

#[test]
fn failed_build_is_dropped_and_shown_for_an_hour() {
    let failed = example(0, 1, 0).building(1).change_template(1, |t| t.state = TemplateState::Failed);
    check(&failed, &["drop template 1"]);
    let dropped = failed.change_template(1, |t| t.oid = None);
    check(&dropped, &[]);
    check(&dropped.clone().unused_for(1, HOUR), &["drop template 1"]);
    check(&dropped.clone().other(7, "app_build_1", true), &["drop template 1"]);
    check(&dropped.clone().other(7, "app_build_1", false), &[]);
    check(&dropped.dropping(), &["drop template 1"]);
}

#[test]
fn failed_template_with_clones_waits_for_them() {
    let failed = |e: Example| e.change_template(1, |t| t.state = TemplateState::Failed);
    check(&failed(example(0, 1, 0).template(1).leased(10, 0)), &["drop template 1"]);
    check(&failed(example(0, 1, 0).template(1).creating(10)).busy(10), &[]);
    let dropped = |e: Example| failed(e).change_template(1, |t| t.oid = None).unused_for(1, HOUR);
    check(&dropped(example(0, 1, 0).template(1).leased(10, 0)), &[]);
    check(&dropped(example(0, 1, 0).template(1)), &["drop template 1"]);
}

#[test]
fn failed_template_step_waits_until_due() {
    let e = example(0, 1, 0).template(1).change_template(1, |t| {
        t.state = TemplateState::Retiring;
        t.due = false;
    });
    check(&e, &[]);
}

/// Templates 1 to 5, the newest last, all unused for a day.
fn five() -> Example {
    (1..=5).fold(example(0, 1, 0), |e, id| e.template(id).unused_for(id, DAY))
}

#[test]
fn template_retires_after_keep_templates_newer_ones() {
    check(&five(), &["retire template 1: outnumbered", "retire template 2: outnumbered"]);
    let mut all_kept = five();
    all_kept.last_pool().settings.keep_templates = 5;
    check(&all_kept, &[]);
    let mut none_kept = five();
    none_kept.last_pool().settings.keep_templates = 0;
    let expected: Vec<String> = (1..=4).map(|id| format!("retire template {id}: outnumbered")).collect();
    check(&none_kept, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn current_template_does_not_retire() {
    let retired = ["retire template 2: outnumbered", "retire template 3: outnumbered"];
    check(&five().current(1), &retired);
    let e = example(0, 1, 0).template(1).unused_for(1, 14 * DAY).template(2).unused_for(2, 14 * DAY).current(1);
    check(&e, &["retire template 2: too old"]);
}

#[test]
fn template_retires_by_age_unless_current() {
    let old = |e: Example, id| e.unused_for(id, 14 * DAY);
    let e = old(old(example(0, 1, 0).template(1).template(2), 1), 2);
    check(&e, &["retire template 1: too old"]);
    check(&example(0, 1, 0).template(1).unused_for(1, 14 * DAY - 1).template(2), &[]);
}

#[test]
fn template_in_use_does_not_retire() {
    let outnumbered = |e: Example| {
        let mut e = e.template(9);
        e.last_pool().settings.keep_templates = 1;
        e
    };
    let retire = ["retire template 1: outnumbered"];
    check(&outnumbered(example(0, 1, 0).template(1).unused_for(1, 600)), &retire);
    check(&outnumbered(example(0, 1, 0).template(1).unused_for(1, 599)), &[]);
    check(&outnumbered(example(0, 1, 0).template(1).leased(10, 0).unused_for(1, 600)), &[]);
    let requested = outnumbered(example(0, 0, 0).template(1).unused_for(1, 600)).waiting(1, TicketKind::Acquire, 1);
    check(&requested, &[]);
    let announced = outnumbered(example(0, 0, 0).template(1).unused_for(1, 600)).announced(Some(1), 1, 1);
    check(&announced, &[]);
}

/// Regression: a source that changed all the time left 25 templates within 45 s, each kept for ten minutes.
#[test]
fn template_of_source_without_lease_retires_when_superseded() {
    let of_source = |leased: bool, seconds: u64| {
        let mut e =
            example(0, 1, 0).template(1).unused_for(1, seconds).change_template(1, |t| t.leased = leased).template(2);
        e.last_pool().sourced = true;
        e
    };
    check(&of_source(false, 10), &["retire template 1: superseded"]);
    check(&of_source(false, 9), &[]);
    check(&of_source(true, 10), &[]);
    let mut of_clients = of_source(false, 10);
    of_clients.last_pool().sourced = false;
    check(&of_clients, &[]);
    let mut newest = example(0, 1, 0).template(1).unused_for(1, 10).change_template(1, |t| t.leased = false);
    newest.last_pool().sourced = true;
    check(&newest, &[]);
}

#[test]
fn template_dropped_or_renamed_externally_retires_at_once() {
    let e = example(0, 1, 0).template(1);
    let mut vanished = e.clone();
    vanished.snapshot.server.clear();
    check(&vanished, &["retire template 1: vanished"]);
    let mut renamed = e.clone();
    renamed.snapshot.server.get_mut(&2001).unwrap().name = "mine".to_owned();
    check(&renamed, &["retire template 1: vanished"]);
    let mut invalid = e;
    invalid.snapshot.server.get_mut(&2001).unwrap().invalid = true;
    check(&invalid, &["retire template 1: vanished"]);
}

#[test]
fn template_with_changed_collations_retires_also_in_use() {
    let e = example(0, 1, 0).template(1).leased(10, 0).change_template(1, |t| t.collations_changed = true);
    check(&e, &["retire template 1: collations changed"]);
}
