//! Probes: whether the process serves, and whether it is ready.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer of `/livez`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// `ok`.
    pub status: String,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether leases can be acquired.
    pub ready: bool,
    /// Why not; empty when it is ready.
    pub reasons: Vec<String>,
}
