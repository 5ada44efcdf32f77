//! Checks that the server's lock table is large enough for the tests of a pool.

use std::fmt;

use crate::name::{Fingerprint, PoolName};
use crate::pool::Pool;
use crate::snapshot::Snapshot;
use crate::template::{TemplateId, TemplateState};

/// A pool whose tests can exhaust the lock table, with its largest template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooFewLocks {
    /// The pool.
    pub pool: PoolName,
    /// Its ready template with the most relations.
    pub template: TemplateId,
    /// The fingerprint of that template.
    pub fingerprint: Fingerprint,
    /// The relations of that template.
    pub relations: u64,
    /// The databases of the pool that tests can use at once.
    pub databases: u32,
    /// Locks that all sessions together can hold.
    pub lock_entries: u64,
}

/// The pools for which the lock table is too small. `DROP SCHEMA … CASCADE` and a TRUNCATE of every table take at least one
/// lock per relation, and tests can run them in all databases at once; `create database` and `drop database` take few.
#[must_use]
pub fn too_few(snapshot: &Snapshot) -> Vec<TooFewLocks> {
    let Some(lock_entries) = snapshot.limits.lock_entries else { return Vec::new() };
    let of_pool = |pool: &Pool| {
        let databases = pool.settings.max.min(snapshot.limits.slots_by_connections.unwrap_or(u32::MAX));
        let (relations, template) = snapshot
            .templates
            .iter()
            .filter(|template| template.pool == pool.name && template.state == TemplateState::Ready)
            .filter_map(|template| Some((template.relations?, template)))
            .max_by_key(|(relations, template)| (*relations, template.id))?;
        (relations.saturating_mul(u64::from(databases)) > lock_entries).then(|| TooFewLocks {
            pool: pool.name.clone(),
            template: template.id,
            fingerprint: template.fingerprint.clone(),
            relations,
            databases,
            lock_entries,
        })
    };
    snapshot.pools.iter().filter(|pool| !pool.dropping).filter_map(of_pool).collect()
}

impl fmt::Display for TooFewLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, fingerprint, relations, databases, lock_entries, .. } = self;
        let needed = relations.saturating_mul(u64::from(*databases));
        let times = needed.div_ceil((*lock_entries).max(1));
        write!(
            f,
            "pool {pool}: tests that drop a schema or truncate every table in {databases} databases at once need at least {needed} \
             locks ({relations} relations of template {fingerprint} × {databases}), but the server has {lock_entries} \
             (max_locks_per_transaction × (max_connections + max_prepared_transactions)), so they can fail with \"out of \
             shared memory\" (SQLSTATE 53200); raise max_locks_per_transaction to {times} times its value, or lower the pool's max"
        )
    }
}
