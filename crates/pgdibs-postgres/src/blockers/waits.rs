//! Tenants' sessions and prepared transactions for which a session of the daemon waits, or a session that starts up.
//!
//! `pg_blocking_pids` names two kinds: holders of a conflicting lock, and sessions that wait ahead in the queue. The second kind may be
//! an innocent tenant, which waits as the daemon does. So the daemon ends the holders, and those that wait only where no tenant holds.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgRow;
use sqlx::{FromRow as _, Row as _};

use super::tenants::{self, Prepared};
use crate::address::{CATALOG, ServerAddress};
use crate::context::PgBackend;
use crate::leftovers::roll_back_prepared;
use crate::watch::{Session, Watch};

struct Blocker {
    /// The oid of the database of pgdibs in which the blocked session starts up; `None` when the daemon or its catalog is blocked.
    database: Option<i64>,
    /// Whether it holds the lock, or only waits ahead.
    holds: bool,
    /// Whether the blocked session wants what this one holds, so that ending those ahead would not help.
    direct: bool,
    what: What,
}

enum What {
    Tenant(Session),
    Prepared(Prepared),
    /// Nothing that the daemon may end.
    Other,
}

/// Ends the present blockers. Without a backend: the daemon has not reached its catalog yet.
pub(super) async fn end(
    backend: Option<&PgBackend>,
    address: &ServerAddress,
    watch: &mut Watch,
) -> Result<(), sqlx::Error> {
    let statement = concat!(include_str!("../../sql/sessions.sql"), include_str!("../../sql/blockers.sql"));
    let rows = sqlx::query(statement).bind(CATALOG).fetch_all(watch.fresh().await?).await?;
    let mut waiting: BTreeMap<i32, Vec<Blocker>> = BTreeMap::new();
    for row in &rows {
        waiting.entry(row.try_get("root")?).or_default().push(blocker(row)?);
    }
    let mut rolled_back = BTreeSet::new();
    for blockers in waiting.values() {
        let mut ended_holder = false;
        for blocker in blockers.iter().filter(|blocker| blocker.holds) {
            match &blocker.what {
                What::Tenant(session) if tenants::may_not_block(backend, session, blocker.database).await => {
                    watch.end(session, WHY).await?;
                    ended_holder = true;
                }
                What::Prepared(prepared) if tenants::has_prepared(backend, prepared).await => {
                    ended_holder = true;
                    if rolled_back.insert((prepared.database.clone(), prepared.gid.clone())) {
                        roll_back(address, prepared).await;
                    }
                }
                _ => {}
            }
        }
        // Behind a lock that stays, the blocked session would gain nothing.
        if ended_holder || blockers.iter().any(|blocker| blocker.holds && blocker.direct) {
            continue;
        }
        for blocker in blockers.iter().filter(|blocker| !blocker.holds) {
            if let What::Tenant(session) = &blocker.what
                && tenants::may_not_block(backend, session, blocker.database).await
            {
                watch.end(session, WHY).await?;
            }
        }
    }
    Ok(())
}

const WHY: &str = "pgdibs, or a session that starts up, waited for its lock";

fn blocker(row: &PgRow) -> Result<Blocker, sqlx::Error> {
    let what = if row.try_get::<Option<&str>, _>("gid")?.is_some() {
        What::Prepared(Prepared::from_row(row)?)
    } else if row.try_get::<Option<bool>, _>("is_tenant")? == Some(true) {
        What::Tenant(Session::from_row(row)?)
    } else {
        What::Other
    };
    Ok(Blocker { database: row.try_get("wanted")?, holds: row.try_get("holds")?, direct: row.try_get("direct")?, what })
}

async fn roll_back(address: &ServerAddress, prepared: &Prepared) {
    let Prepared { database, gid, owner, .. } = prepared;
    match roll_back_prepared(address, database, gid, owner).await {
        Ok(()) => tracing::warn!(database, gid, "rolled back prepared transaction: {WHY}"),
        Err(error) => tracing::warn!(database, gid, %error, "cannot roll back prepared transaction"),
    }
}
