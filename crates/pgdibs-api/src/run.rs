//! Runs: what one test session announces and holds.

use pgdibs_core::name::PoolName;
use pgdibs_core::request::Announce;
use pgdibs_core::snapshot::AnnouncedRun;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bounded::{BoundedInteger, FingerprintField, Label, Name, PoolField};

/// What a run will need.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The pool that it will lease from.
    pub pool: PoolField,
    /// The template that it will lease; the pool's current one unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<FingerprintField>,
    /// How many workers it has.
    #[schema(default = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<BoundedInteger<1, 1000>>,
    /// How many databases each of them leases.
    #[schema(default = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<BoundedInteger<1, 100>>,
}

impl RunRequest {
    /// One database of `pool`.
    #[must_use]
    pub fn new(pool: PoolName) -> Self {
        Self { pool: Name(pool), fingerprint: None, workers: None, aliases: None }
    }

    /// The announcement of the run with this name.
    #[must_use]
    pub fn announce(self, run: Label) -> Announce {
        Announce {
            run: run.into_string(),
            pool: self.pool.0,
            fingerprint: self.fingerprint.map(|fingerprint| fingerprint.0),
            workers: self.workers.map_or(1, BoundedInteger::as_u32),
            aliases: self.aliases.map_or(1, BoundedInteger::as_u32),
        }
    }
}

/// A run that was announced.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Its name.
    pub run: String,
    /// The pool that it will lease from.
    pub pool: String,
    /// The template that it will lease; null while the pool has none.
    pub fingerprint: Option<String>,
    /// How many workers it has.
    pub workers: u32,
    /// How many databases each of them leases.
    pub aliases: u32,
}

impl From<Announce> for Run {
    fn from(announce: Announce) -> Self {
        Self {
            run: announce.run,
            pool: announce.pool.to_string(),
            fingerprint: announce.fingerprint.map(|fingerprint| fingerprint.to_string()),
            workers: announce.workers,
            aliases: announce.aliases,
        }
    }
}

/// The end of a run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct RunEnded {
    /// How many of its leases were live until now.
    pub released: u64,
}

/// A run as the status shows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunStatus {
    /// Its name.
    pub run: String,
    /// The pool that it leases from.
    pub pool: String,
    /// The template that it leases.
    pub fingerprint: Option<String>,
    /// How many leases it announced.
    pub wanted: u32,
    /// How many it holds.
    pub held: u32,
}

impl From<&AnnouncedRun> for RunStatus {
    fn from(run: &AnnouncedRun) -> Self {
        Self {
            run: run.run.clone(),
            pool: run.pool.to_string(),
            fingerprint: run.fingerprint.as_ref().map(ToString::to_string),
            wanted: run.wanted,
            held: run.held,
        }
    }
}
