//! Whether the server's lock table is large enough for what tests do in all databases of a pool at once.

use std::fmt;

use crate::name::{Fingerprint, PoolName};
use crate::snapshot::Snapshot;
use crate::template::{TemplateId, TemplateState};

/// A pool whose tests may run the server out of locks, with its largest template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooFewLocks {
    /// The pool.
    pub pool: PoolName,
    /// Its ready template with the most relations.
    pub template: TemplateId,
    /// What its builder calls it.
    pub fingerprint: Fingerprint,
    /// How many relations that has.
    pub relations: u64,
    /// Databases of the pool that tests can be in at once.
    pub databases: u32,
    /// Locks that all sessions together can hold.
    pub lock_entries: u64,
}

/// The pools for which the lock table is too small. `DROP SCHEMA … CASCADE` and a TRUNCATE of everything take at least one lock
/// for each relation, and tests do so in all databases at once; cloning and dropping databases take next to none.
#[must_use]
pub fn too_few(snapshot: &Snapshot) -> Vec<TooFewLocks> {
    let Some(lock_entries) = snapshot.limits.lock_entries else { return Vec::new() };
    let of_pool = |pool: &crate::pool::Pool| {
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
            "pool {pool}: tests that drop a schema or truncate everything in {databases} databases at once need at least {needed} \
             locks ({relations} relations of template {fingerprint} × {databases}), and the server has {lock_entries} \
             (max_locks_per_transaction × (max_connections + max_prepared_transactions)); without more they fail with \"out of \
             shared memory\" (SQLSTATE 53200): raise max_locks_per_transaction to {times} times its value, or lower the pool's max"
        )
    }
}
