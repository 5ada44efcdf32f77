//! Tests of plans: a snapshot in a few lines, and the expected steps.

mod large;
mod leases;
mod locks;
mod pool;
mod returns;
mod templates;
mod example;

use super::{ForgetReason, RetireReason, Step, TemplateRetireReason, plan};
use crate::database::DatabaseId;
use crate::lease::End;
use crate::template::TemplateId;
use example::{Example, example};

/// Compares the plan with the expected steps, one line each.
#[track_caller]
fn check(example: &Example, expected: &[&str]) {
    let steps: Vec<String> = plan(&example.snapshot, &example.context).iter().map(shown).collect();
    assert_eq!(steps, expected);
}

fn shown(step: &Step) -> String {
    let d = |id: &DatabaseId| id.0;
    let t = |id: &TemplateId| id.0;
    match step {
        Step::EndLease { lease, end, reason, .. } => {
            let end = match end {
                End::Released => "release",
                End::Expired => "expire",
                End::Revoked => "revoke",
            };
            format!("{end} lease {}: {reason}", lease.as_u128())
        }
        Step::Reset { lease, used, spare } => format!("reset lease {}: {} by {}", lease.as_u128(), d(used), d(spare)),
        Step::Return { used, spare: Some(spare) } => format!("return {}, {} enters", d(used), d(spare)),
        Step::Return { used, spare: None } => format!("return {}", d(used)),
        Step::Fence { database } => format!("fence {}", d(database)),
        Step::Fill { spare, slot } => format!("fill slot {slot} with {}", d(spare)),
        Step::Move { database, slot, displaced: None } => format!("move {} to slot {slot}", d(database)),
        Step::Move { database, slot, displaced: Some(other) } => {
            format!("move {} to slot {slot}, {} makes room", d(database), d(other))
        }
        Step::Retire { database, reason } => format!("retire {}: {}", d(database), retired(*reason)),
        Step::NewDatabases { template, count } => format!("{count} new of {}", t(template)),
        Step::Clone { database, awaited: true } => format!("clone {}", d(database)),
        Step::Clone { database, awaited: false } => format!("refill {}", d(database)),
        Step::Drop { database } => format!("drop {}", d(database)),
        Step::Adopt { database, oid } => format!("adopt {} at oid {oid}", d(database)),
        Step::Forget { database, reason } => {
            let reason = match reason {
                ForgetReason::Vanished => "vanished",
                ForgetReason::RenamedExternally => "renamed",
                ForgetReason::NotNeeded => "not needed",
            };
            format!("forget {}: {reason}", d(database))
        }
        Step::CreateBuild { template } => format!("create build {}", t(template)),
        Step::Seal { template } => format!("seal {}", t(template)),
        Step::FailBuild { template, reason } => format!("fail build {}: {reason}", t(template)),
        Step::RetireTemplate { template, reason } => {
            let reason = match reason {
                TemplateRetireReason::Outnumbered => "outnumbered",
                TemplateRetireReason::TooOld => "too old",
                TemplateRetireReason::Superseded => "superseded",
                TemplateRetireReason::PoolDropped => "pool dropped",
                TemplateRetireReason::Vanished => "vanished",
                TemplateRetireReason::CollationsChanged => "collations changed",
            };
            format!("retire template {}: {reason}", t(template))
        }
        Step::DropTemplate { template } => format!("drop template {}", t(template)),
        Step::ForgetPool { pool } => format!("forget pool {pool}"),
    }
}

fn retired(reason: RetireReason) -> &'static str {
    match reason {
        RetireReason::Tampered => "tampered",
        RetireReason::Surplus => "surplus",
        RetireReason::PoolUnused => "pool unused",
        RetireReason::Evicted => "evicted",
        RetireReason::TemplateRetired => "template retired",
        RetireReason::KeepExpired => "keep expired",
        RetireReason::PoolDropped => "pool dropped",
        RetireReason::Invalid => "invalid",
        RetireReason::LockedOut => "locked out",
    }
}

#[test]
fn empty_snapshot_needs_no_steps() {
    check(&Example::default(), &[]);
}

#[test]
fn plan_orders_fast_steps_then_clones_then_drops() {
    let e = example(2, 4, 1).template(1).ready(10, 0).retiring(11, 1).old(12).spare(13).creating(14);
    check(&e, &["return 11, 13 enters", "refill 14", "drop 12"]);
}

#[test]
fn busy_database_gets_no_further_step() {
    let e = example(1, 1, 0).template(1).ready(10, 0).old(11);
    check(&e, &["drop 11"]);
    check(&e.busy(11), &[]);
}

#[test]
fn clone_in_progress_is_not_started_again() {
    let e = example(1, 1, 1).template(1).creating(10).creating(11);
    check(&e, &["refill 10", "refill 11"]);
    check(&e.busy(10).busy(11), &[]);
}

#[test]
fn failed_step_waits_until_due() {
    let e = example(1, 1, 0).template(1).ready(10, 0).old(11).not_due(11);
    check(&e, &[]);
    let e = example(1, 1, 0).template(1).creating(10).not_due(10);
    check(&e, &[]);
    let e = example(1, 1, 1).template(1).retiring(10, 0).not_due(10).spare(11).spare(12);
    check(&e, &["fill slot 1 with 11"]);
}
