//! Plans what happens to templates: builds, seals, losses, retirements and drops.

use super::slots;
use super::step::{Step, TemplateRetireReason};
use crate::name::DatabaseName;
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::{Template, TemplateState};

/// A template stays at least this long after its last `PUT` or lease.
const GRACE_SECONDS: u64 = 600;

/// The row of a failed build is shown for this long unless another build takes its place.
const FAILED_SHOWN_SECONDS: u64 = 3600;

pub(super) fn plan(snapshot: &Snapshot, context: &PlannerContext, steps: &mut Vec<Step>) {
    for template in &snapshot.templates {
        if context.busy_templates.contains(&template.id) || !template.due {
            continue;
        }
        let id = template.id;
        match template.state {
            TemplateState::Building if dropping(snapshot, template) => {
                steps.push(Step::LoseBuild { template: id, reason: "its pool was dropped".to_owned() });
            }
            TemplateState::Building if template.oid.is_none() => steps.push(Step::CreateBuild { template: id }),
            TemplateState::Building if template.seal_requested && is_name_still_used(snapshot, template) => {}
            TemplateState::Building if template.seal_requested => steps.push(Step::Seal { template: id }),
            TemplateState::Building if template.builder_silent => {
                let reason = format!(
                    "its builder ({}) neither renewed nor had a session on the build's database for 60 seconds",
                    template.holder
                );
                steps.push(Step::LoseBuild { template: id, reason });
            }
            TemplateState::Ready => {
                if let Some(reason) = retire_reason(snapshot, template) {
                    steps.push(Step::RetireTemplate { template: id, reason });
                }
            }
            // Its database goes once no clone of it can be under way; its row waits for the last database (a kept one).
            TemplateState::Retiring if may_be_dropped(snapshot, template) => {
                steps.push(Step::DropTemplate { template: id });
            }
            TemplateState::Failed
                if template.oid.is_some()
                    || is_half_made(snapshot, template)
                    || template.unused_seconds >= FAILED_SHOWN_SECONDS
                    || dropping(snapshot, template) =>
            {
                steps.push(Step::DropTemplate { template: id });
            }
            _ => {}
        }
    }
}

/// Whether an older template of the same fingerprint, on its way out, still has the name that this one will get.
fn is_name_still_used(snapshot: &Snapshot, template: &Template) -> bool {
    let name = DatabaseName::template(&template.pool, &template.fingerprint);
    snapshot.templates.iter().any(|other| {
        other.id != template.id
            && other.name == name
            && other
                .oid
                .and_then(|oid| snapshot.server.get(&oid))
                .is_some_and(|found| found.ours && found.name == name.as_str())
    })
}

fn may_be_dropped(snapshot: &Snapshot, template: &Template) -> bool {
    let mut databases = snapshot.databases.iter().filter(|d| d.template == template.id);
    if template.oid.is_some() { databases.all(|d| d.is_cloned()) } else { databases.next().is_none() }
}

/// Whether its builder's database was created, but the daemon died before it took note.
fn is_half_made(snapshot: &Snapshot, template: &Template) -> bool {
    template.oid.is_none() && snapshot.server.values().any(|found| found.ours && found.name == template.name.as_str())
}

fn dropping(snapshot: &Snapshot, template: &Template) -> bool {
    snapshot.pools.iter().any(|pool| pool.name == template.pool && pool.dropping)
}

fn retire_reason(snapshot: &Snapshot, template: &Template) -> Option<TemplateRetireReason> {
    let pool = snapshot.pools.iter().find(|pool| pool.name == template.pool)?;
    if pool.dropping {
        return Some(TemplateRetireReason::PoolDropped);
    }
    let found = template.oid.and_then(|oid| snapshot.server.get(&oid));
    if found.is_none_or(|found| found.name != template.name.as_str() || found.invalid) {
        return Some(TemplateRetireReason::Vanished);
    }
    let newer = snapshot
        .templates
        .iter()
        .filter(|t| t.pool == template.pool && t.state == TemplateState::Ready)
        .filter(|t| (t.built_at, t.id) > (template.built_at, template.id))
        .count();
    let in_use = slots::live_leases(snapshot, template.id) > 0
        || snapshot.tickets.iter().any(|ticket| ticket.template == template.id)
        || snapshot
            .runs
            .iter()
            .any(|run| run.pool == template.pool && run.fingerprint.as_ref() == Some(&template.fingerprint))
        || template.unused_seconds < GRACE_SECONDS;
    if newer == 0 || in_use {
        None
    } else if newer >= pool.settings.keep_templates as usize {
        Some(TemplateRetireReason::Outnumbered)
    } else if template.unused_seconds >= pool.settings.template_max_age_seconds {
        Some(TemplateRetireReason::TooOld)
    } else {
        None
    }
}
