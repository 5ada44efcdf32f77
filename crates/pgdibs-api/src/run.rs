//! Runs: what one test session announces and holds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A run that was announced.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Its name.
    pub run: String,
    /// The pool that it will lease from.
    pub pool: String,
    /// The template that it will lease, unless the pool's newest.
    pub fingerprint: Option<String>,
    /// How many workers it has.
    pub workers: u32,
    /// How many databases each of them leases.
    pub aliases: u32,
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
