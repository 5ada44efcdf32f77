//! Pools: settings, counts and templates of the databases of one project.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::template::Template;

/// How many databases are in which state; `waiting` counts callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs, reason = "named as the states are")]
pub struct Counts {
    pub ready: u64,
    pub leased: u64,
    pub spare: u64,
    pub creating: u64,
    pub retiring: u64,
    pub kept: u64,
    pub blocked: u64,
    pub waiting: u64,
}

/// A database that three steps in a row could not work on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Blocked {
    /// Its name.
    pub database: String,
    /// What was to be done with it.
    pub reason: Option<String>,
    /// How many attempts failed.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// A pool with its settings, its counts and its templates.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its name, which its databases begin with.
    pub pool: String,
    /// Databases that stand ready at rest.
    pub warm: u32,
    /// Most slots.
    pub max: u32,
    /// Clones behind the slots at rest.
    pub spares: u32,
    /// The role that owns the objects of its databases.
    pub owner: String,
    /// How clones are made: `auto`, `file_copy` or `wal_log`.
    pub strategy: String,
    /// Extensions that every template has.
    pub extensions: Vec<String>,
    /// Roles that every template may refer to.
    pub roles: Vec<String>,
    /// Templates kept beside those in use.
    pub keep_templates: u32,
    /// Unused templates are dropped after so many seconds.
    pub template_max_age_seconds: u64,
    /// What the login of a lease may do: `plain`, `createdb` or `superuser`.
    pub login: String,
    /// Sessions that one database takes at once; 0 for no limit.
    pub connection_limit: u32,
    /// Whether the daemon builds its templates.
    pub sourced: bool,
    /// Whether the pool is being dropped.
    pub dropping: bool,
    /// How many databases are in which state.
    pub counts: Counts,
    /// How long the longest waiter has waited.
    pub longest_wait_seconds: f64,
    /// Its templates.
    pub templates: Vec<Template>,
    /// Databases that steps could not work on.
    pub blocked: Vec<Blocked>,
}

/// All pools.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pools {
    /// In the order of their names.
    pub pools: Vec<Pool>,
}
