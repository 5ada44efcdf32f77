//! The pools of the configuration that the daemon could not make.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pgdibs_core::name::PoolName;

/// The pools of the configuration that could not be applied, and why.
#[derive(Debug, Default)]
pub struct RefusedPools(Mutex<BTreeMap<PoolName, String>>);

impl RefusedPools {
    /// Sets or forgets the reason.
    pub fn set(&self, pool: &PoolName, why: Option<String>) {
        match why {
            Some(why) => self.0.lock().insert(pool.clone(), why),
            None => self.0.lock().remove(pool),
        };
    }

    /// The reason of this one.
    pub fn why(&self, pool: &str) -> Option<String> {
        self.0.lock().iter().find(|(name, _)| name.as_str() == pool).map(|(_, why)| why.clone())
    }

    /// One sentence for each.
    pub fn sentences(&self) -> Vec<String> {
        self.0.lock().iter().map(|(pool, why)| format!("pool {pool}: {why}")).collect()
    }
}
