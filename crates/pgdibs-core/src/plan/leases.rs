//! Plans the ends of leases and the swaps of resets.

use super::slots;
use super::step::Step;
use crate::database::{DatabaseId, DatabaseState};
use crate::lease::End;
use crate::snapshot::{PlannerContext, Snapshot};

pub(super) fn plan(snapshot: &Snapshot, context: &PlannerContext, steps: &mut Vec<Step>) {
    for lease in &snapshot.leases {
        let database = lease.database.and_then(|id| snapshot.database(id));
        let Some(database) = database else {
            steps.push(Step::EndLease {
                lease: lease.id,
                end: End::Revoked,
                renewals: lease.renewals,
                reason: "its database is gone".to_owned(),
            });
            continue;
        };
        if context.busy_databases.contains(&database.id) {
            continue;
        }
        let exists = database
            .oid
            .and_then(|oid| snapshot.server.get(&oid))
            .is_some_and(|found| found.name == database.name.as_str() && !found.invalid);
        let unrenewed = context.overdue.get(&lease.id).copied();
        // A reset counts as a renewal and holds the lease, but one that never succeeds must not hold it for ever.
        let reset_to = lease.reset_to.filter(|_| unrenewed.is_none_or(|unrenewed| unrenewed < context.max_ttl));
        if !exists {
            steps.push(Step::EndLease {
                lease: lease.id,
                end: End::Revoked,
                renewals: lease.renewals,
                reason: "its database was dropped or renamed by somebody else".to_owned(),
            });
        } else if let Some(spare) = reset_to {
            // A spare that somebody damaged frees the reservation when it is retired or forgotten; see `slots`.
            if database.state == DatabaseState::Leased && database.due && is_whole(snapshot, spare) {
                steps.push(if slots::is_stuck(snapshot, database) {
                    Step::Fence { database: database.id }
                } else {
                    Step::Reset { lease: lease.id, used: database.id, spare }
                });
            }
        } else if let Some(unrenewed) = unrenewed {
            let connected = context.sessions.get(&lease.id).copied().unwrap_or(0);
            if connected == 0 {
                let reason = format!("not renewed for {} s", unrenewed.as_secs());
                steps.push(Step::EndLease { lease: lease.id, end: End::Expired, renewals: lease.renewals, reason });
            } else if unrenewed >= context.max_ttl {
                let reason = format!(
                    "not renewed for {} s, which is the longest that a connected session may hold a lease (max_ttl_seconds); {connected} session(s) were ended",
                    unrenewed.as_secs()
                );
                steps.push(Step::EndLease { lease: lease.id, end: End::Expired, renewals: lease.renewals, reason });
            }
        }
    }
}

fn is_whole(snapshot: &Snapshot, spare: DatabaseId) -> bool {
    snapshot.database(spare).is_some_and(|spare| {
        let found = spare.oid.and_then(|oid| snapshot.server.get(&oid));
        found.is_some_and(|found| found.name == spare.name.as_str()) && slots::damage(snapshot, spare).is_none()
    })
}
