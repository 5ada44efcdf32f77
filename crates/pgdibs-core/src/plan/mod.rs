//! The planner: compares the desired state in the catalog with the state of the server and returns steps with their reasons.
//!
//! It is a pure function. The timer, a release and the start-up all run the same cycle: take a snapshot, plan, execute. Steps
//! are independent and check their assumptions again, so a plan may be executed in part or twice.

pub mod large;
mod leases;
pub mod locks;
mod placement;
mod share;
mod shared_capacity;
mod slots;
mod step;
mod templates;

use std::collections::{BTreeMap, BTreeSet};

pub use step::{Class, ForgetReason, RetireReason, Step, TemplateRetireReason};

use crate::database::DatabaseState;
use crate::pool::{LoginRights, Pool};
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::TemplateId;

/// The steps to execute now: fast steps first and clones before drops, so that no caller waits for housekeeping.
#[must_use]
pub fn plan(snapshot: &Snapshot, context: &PlannerContext) -> Vec<Step> {
    let mut steps = Vec::new();
    leases::plan(snapshot, context, &mut steps);
    let mut shared_capacity = shared_capacity::SharedCapacity::of(snapshot, context);
    for pool in &snapshot.pools {
        slots::plan(snapshot, context, pool, &mut shared_capacity, &mut steps);
    }
    templates::plan(snapshot, context, &mut steps);
    steps.sort_by_key(order);
    steps
}

fn order(step: &Step) -> u8 {
    match step {
        Step::EndLease { .. } => 0,
        Step::Reset { .. } => 1,
        Step::Return { .. } | Step::Fence { .. } => 2,
        Step::Fill { .. } => 3,
        Step::Move { .. } | Step::Retire { .. } | Step::Adopt { .. } | Step::Forget { .. } => 4,
        Step::FailBuild { .. } | Step::RetireTemplate { .. } | Step::ForgetPool { .. } => 5,
        Step::NewDatabases { .. } => 6,
        Step::Seal { .. } => 7,
        Step::CreateBuild { .. } => 8,
        Step::Clone { .. } => 9,
        Step::Drop { .. } => 10,
        Step::DropTemplate { .. } => 11,
    }
}

/// Databases in use per template, for [`crate::watch::DemandWatch`]: leased, requested by tickets, or announced.
#[must_use]
pub fn in_use(snapshot: &Snapshot) -> BTreeMap<TemplateId, u32> {
    snapshot
        .templates
        .iter()
        .filter_map(|template| {
            let demand = share::Demand::of(snapshot, template);
            let count = demand.leased + demand.waiting.max(demand.announced);
            (count > 0).then_some((template.id, count))
        })
        .collect()
}

/// For a [`crate::watch::DemandWatch`] that has just started: templates beside the current one whose databases are ready were in use
/// recently. Without this, a restart of the daemon would retire the warm databases of the branch that is not current.
#[must_use]
pub fn recently_in_use(snapshot: &Snapshot) -> BTreeMap<TemplateId, u32> {
    let is_current =
        |id| snapshot.pools.iter().any(|pool| snapshot.current_template(&pool.name).is_some_and(|t| t.id == id));
    let ready = snapshot.databases.iter().filter(|d| d.state == DatabaseState::Ready && !is_current(d.template));
    ready.map(|database| (database.template, 1)).collect()
}

/// Why pools cannot give databases: for each ready template of which no clone can be made.
#[must_use]
pub fn unready(snapshot: &Snapshot) -> BTreeSet<String> {
    snapshot
        .templates
        .iter()
        .filter_map(|template| Some(format!("pool {}: {}", template.pool, template.unready()?)))
        .collect()
}

/// Warnings about pools for the log and the status: a `max` above what the server's `max_connections` allows, and logins with
/// extended rights.
#[must_use]
pub fn warnings(snapshot: &Snapshot) -> BTreeSet<String> {
    let limit = snapshot.limits.slots_by_connections.unwrap_or(u32::MAX);
    let pools = snapshot.pools.iter().filter(|pool| !pool.dropping);
    let of_pool = |pool: &Pool| {
        let lowered = (pool.settings.max > limit).then(|| {
            format!(
                "pool \"{}\": its max of {} is lowered to {limit}, the limit by the server's max_connections for the databases of all pools; raise max_connections, or lower max",
                pool.name, pool.settings.max
            )
        });
        let privileged = match pool.settings.login {
            LoginRights::Plain | LoginRights::CreateDb => None,
            LoginRights::Superuser => Some(format!(
                "pool \"{}\": the logins of its leases are superusers (login = \"superuser\"): its tests can read, change and drop everything on this server, including the catalog of pgdibs and other databases",
                pool.name
            )),
        };
        [lowered, privileged]
    };
    pools.flat_map(of_pool).flatten().collect()
}

#[cfg(test)]
mod tests;
