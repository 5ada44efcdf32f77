//! Which ready databases a plan leaves to waiters.

use std::collections::BTreeMap;

use pgdibs_core::database::DatabaseState;
use pgdibs_core::plan::Step;
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::{TemplateId, TemplateState};

/// The template of which a step makes a database ready.
pub(super) fn entering(step: &Step, snapshot: &Snapshot) -> Option<TemplateId> {
    let (Step::Return { spare: Some(spare), .. } | Step::Fill { spare, .. }) = step else { return None };
    snapshot.database(*spare).map(|database| database.template)
}

/// Ready databases of each template whose state this plan does not change: how many of its waiters may be served.
pub(super) fn ready_for_waiters(snapshot: &Snapshot, steps: &[Step]) -> BTreeMap<TemplateId, usize> {
    let lasting = snapshot.templates.iter().filter(|template| {
        template.state == TemplateState::Ready
            && !steps.iter().any(|step| step.template() == Some(template.id))
            && snapshot.pools.iter().any(|pool| pool.name == template.pool && !pool.dropping)
    });
    let count = |id| snapshot.databases.iter().filter(|d| d.template == id && d.state == DatabaseState::Ready).count();
    lasting.map(|template| (template.id, count(template.id))).collect()
}
