//! The planner: compares what the catalog wants with what the server has and returns steps, each with its reason.
//!
//! It is pure. Timer, release and start-up all do the same: gather, plan, execute. Steps are independent of each other and
//! re-check what they assume, so a plan that is half carried out, or carried out twice, does no harm.

mod leases;
pub mod locks;
mod shared_capacity;
mod slots;
mod step;
mod templates;

use std::collections::BTreeSet;

pub use step::{Class, ForgetReason, RetireReason, Step, TemplateRetireReason};

use crate::pool::{LoginRights, Pool};
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::TemplateId;

/// What is to be done now: fast steps first, clones before drops, so that nobody waits behind housekeeping.
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
        Step::Retire { .. } | Step::AdoptHalfMade { .. } | Step::Forget { .. } => 4,
        Step::LoseBuild { .. } | Step::RetireTemplate { .. } | Step::ForgetPool { .. } => 5,
        Step::NewDatabases { .. } => 6,
        Step::Seal { .. } => 7,
        Step::CreateBuild { .. } => 8,
        Step::Clone { .. } => 9,
        Step::Drop { .. } => 10,
        Step::DropTemplate { .. } => 11,
    }
}

/// Databases in use per template, for [`crate::watch::DemandWatch`]: leased, waited for, or announced.
#[must_use]
pub fn in_use(snapshot: &Snapshot) -> std::collections::BTreeMap<TemplateId, u32> {
    snapshot
        .templates
        .iter()
        .filter_map(|template| {
            let demand = slots::Demand::of(snapshot, template);
            let count = demand.leased + demand.waiting.max(demand.announced);
            (count > 0).then_some((template.id, count))
        })
        .collect()
}

/// What people should know of pools, each in a sentence: a `max` that is lowered by what the server's `max_connections` leaves, and
/// logins that may do more than tests need as a rule.
#[must_use]
pub fn warnings(snapshot: &Snapshot) -> BTreeSet<String> {
    let limit = snapshot.limits.slots_by_connections.unwrap_or(u32::MAX);
    let pools = snapshot.pools.iter().filter(|pool| !pool.dropping);
    let of_pool = |pool: &Pool| {
        let lowered = (pool.settings.max > limit).then(|| {
            format!(
                "pool \"{}\": its max of {} is lowered to {limit}, which is what the server's max_connections leaves for the databases of all pools; raise max_connections, or lower max",
                pool.name, pool.settings.max
            )
        });
        let privileged = match pool.settings.login {
            LoginRights::Plain => None,
            LoginRights::CreateDb => Some(format!(
                "pool \"{}\": the logins of its leases may make databases (login = \"createdb\"); what they made is dropped with them",
                pool.name
            )),
            LoginRights::Superuser => Some(format!(
                "pool \"{}\": the logins of its leases are superusers (login = \"superuser\"): its tests can read, change and drop everything on this server, pgdibs's catalog and the databases of others included",
                pool.name
            )),
        };
        [lowered, privileged]
    };
    pools.flat_map(of_pool).flatten().collect()
}

#[cfg(test)]
mod tests;
