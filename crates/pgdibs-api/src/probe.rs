//! Probes: whether the process serves, and whether it is ready.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer of `/livez`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// That the process serves.
    pub status: Liveness,
}

/// Whether the process serves: a process that does not gives no answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// It does.
    #[default]
    Ok,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether leases can be acquired.
    pub ready: bool,
    /// Why not; empty when it is ready.
    pub reasons: Vec<String>,
    /// Why callers wait though it is ready: pools without a free database, or too little disk space for clones.
    #[serde(default)]
    #[schema(required = true)]
    pub warnings: Vec<String>,
}
