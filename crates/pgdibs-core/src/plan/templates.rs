//! Plans the steps of templates: builds, seals, failures, retirements and drops.

use super::step::{Step, TemplateRetireReason};
use crate::name::DatabaseName;
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::{Template, TemplateState};

/// The minimum time between the last `PUT` or lease of a template and its retirement.
const GRACE_SECONDS: u64 = 600;

/// A daemon repeats the `PUT` of its source's present template every two seconds. Without one for this long, no daemon needs the template.
const SUPERSEDED_SECONDS: u64 = 10;

/// How long the API shows a failed build unless another build of the fingerprint replaces it.
const FAILED_SHOWN_SECONDS: u64 = 3600;

pub(super) fn plan(snapshot: &Snapshot, context: &PlannerContext, steps: &mut Vec<Step>) {
    for template in &snapshot.templates {
        if context.busy_templates.contains(&template.id) || !template.due {
            continue;
        }
        let id = template.id;
        match template.state {
            TemplateState::Building if dropping(snapshot, template) => {
                steps.push(Step::FailBuild { template: id, reason: "its pool was dropped".to_owned() });
            }
            TemplateState::Building if template.oid.is_none() => steps.push(Step::CreateBuild { template: id }),
            TemplateState::Building if template.seal_requested && is_name_in_use(snapshot, template) => {}
            TemplateState::Building if template.seal_requested => steps.push(Step::Seal { template: id }),
            TemplateState::Building if template.builder_silent => {
                let reason = format!(
                    "its builder ({}) neither renewed the build nor had a session on its database for 60 seconds; PUT the template to build it again",
                    template.holder
                );
                steps.push(Step::FailBuild { template: id, reason });
            }
            TemplateState::Ready => {
                if let Some(reason) = retire_reason(snapshot, template) {
                    steps.push(Step::RetireTemplate { template: id, reason });
                }
            }
            // The database is dropped when no clone of it can be running, the row after the last database (a kept one) of the template.
            TemplateState::Retiring if may_be_dropped(snapshot, template) => {
                steps.push(Step::DropTemplate { template: id });
            }
            TemplateState::Failed
                if may_be_dropped(snapshot, template)
                    && (template.oid.is_some()
                        || is_unrecorded(snapshot, template)
                        || template.unused_seconds >= FAILED_SHOWN_SECONDS
                        || dropping(snapshot, template)) =>
            {
                steps.push(Step::DropTemplate { template: id });
            }
            _ => {}
        }
    }
}

/// Whether an older template of the same fingerprint, which is retiring, still has the name that this one will get.
fn is_name_in_use(snapshot: &Snapshot, template: &Template) -> bool {
    let name = DatabaseName::template(&template.pool, &template.fingerprint);
    snapshot.templates.iter().any(|other| {
        other.id != template.id
            && other.name == name
            && snapshot.on_server(other.oid).is_some_and(|found| found.owned && found.name == name.as_str())
    })
}

fn may_be_dropped(snapshot: &Snapshot, template: &Template) -> bool {
    let mut databases = snapshot.databases.iter().filter(|d| d.template == template.id);
    if template.oid.is_some() { databases.all(|d| d.is_cloned()) } else { databases.next().is_none() }
}

/// Whether a daemon created the build's database and died before it recorded the oid.
fn is_unrecorded(snapshot: &Snapshot, template: &Template) -> bool {
    template.oid.is_none() && snapshot.server.values().any(|found| found.owned && found.name == template.name.as_str())
}

fn dropping(snapshot: &Snapshot, template: &Template) -> bool {
    snapshot.pool(&template.pool).is_some_and(|pool| pool.dropping)
}

fn retire_reason(snapshot: &Snapshot, template: &Template) -> Option<TemplateRetireReason> {
    let pool = snapshot.pool(&template.pool)?;
    if pool.dropping {
        return Some(TemplateRetireReason::PoolDropped);
    }
    if snapshot.on_server(template.oid).is_none_or(|found| found.name != template.name.as_str() || found.invalid) {
        return Some(TemplateRetireReason::Vanished);
    }
    if template.collations_changed {
        return Some(TemplateRetireReason::CollationsChanged);
    }
    let preceding = snapshot
        .templates
        .iter()
        .filter(|t| t.pool == template.pool && t.state == TemplateState::Ready)
        .filter(|t| snapshot.precedence(t) > snapshot.precedence(template))
        .count();
    let superseded = pool.sourced && !template.leased && template.unused_seconds >= SUPERSEDED_SECONDS;
    let in_use = snapshot.leases.iter().any(|lease| lease.template == template.id)
        || snapshot.tickets.iter().any(|ticket| ticket.template == template.id)
        || snapshot
            .runs
            .iter()
            .any(|run| run.pool == template.pool && run.fingerprint.as_ref() == Some(&template.fingerprint))
        || template.unused_seconds < GRACE_SECONDS && !superseded;
    if preceding == 0 || in_use {
        None
    } else if superseded {
        Some(TemplateRetireReason::Superseded)
    } else if preceding >= pool.settings.keep_templates as usize {
        Some(TemplateRetireReason::Outnumbered)
    } else if template.unused_seconds >= pool.settings.template_max_age_seconds {
        Some(TemplateRetireReason::TooOld)
    } else {
        None
    }
}
