//! Plans the ends of leases and the swaps of resets.

use super::slots;
use super::step::Step;
use crate::database::{DatabaseId, DatabaseState};
use crate::lease::End;
use crate::snapshot::{PlannerContext, Snapshot};

pub(super) fn plan(snapshot: &Snapshot, context: &PlannerContext, steps: &mut Vec<Step>) {
    for lease in &snapshot.leases {
        let end = |end, reason| Step::EndLease { lease: lease.id, end, renewals: lease.renewals, reason };
        let Some(database) = lease.database.and_then(|id| snapshot.database(id)) else {
            steps.push(end(End::Revoked, "its database no longer exists".to_owned()));
            continue;
        };
        if context.busy_databases.contains(&database.id) {
            continue;
        }
        let exists = snapshot
            .on_server(database.oid)
            .is_some_and(|found| found.name == database.name.as_str() && !found.invalid);
        let unrenewed = context.overdue.get(&lease.id).copied();
        // A reset counts as a renewal until `max_ttl`: one that keeps failing must not hold the lease for ever.
        let reset_to = lease.reset_to.filter(|_| unrenewed.is_none_or(|unrenewed| unrenewed < context.max_ttl));
        if !exists {
            let reason = "its database was dropped or renamed outside pgdibs; acquire another one".to_owned();
            steps.push(end(End::Revoked, reason));
        } else if let Some(spare) = reset_to {
            // The retirement of a damaged spare frees its reservation; see `slots`.
            if database.state == DatabaseState::Leased && database.due && is_usable(snapshot, spare) {
                steps.push(if slots::is_stuck(snapshot, database) {
                    Step::Fence { database: database.id }
                } else {
                    Step::Reset { lease: lease.id, used: database.id, spare }
                });
            }
        } else if let Some(unrenewed) = unrenewed {
            let connected = context.sessions.get(&lease.id).copied().unwrap_or(0);
            let mut reason = format!("not renewed for {} s", unrenewed.as_secs());
            if connected > 0 && unrenewed < context.max_ttl {
                continue;
            } else if connected > 0 {
                reason += &format!(
                    ", the limit for a lease with a connected session (max_ttl_seconds); pgdibs ended {connected} session(s)"
                );
            }
            steps.push(end(End::Expired, reason));
        }
    }
}

fn is_usable(snapshot: &Snapshot, spare: DatabaseId) -> bool {
    snapshot.database(spare).is_some_and(|spare| {
        snapshot.on_server(spare.oid).is_some_and(|found| found.name == spare.name.as_str())
            && slots::damage(snapshot, spare).is_none()
    })
}
