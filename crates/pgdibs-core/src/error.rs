//! Errors by cause. The HTTP layer maps each to a status in one `match`; nothing else depends on HTTP.

use crate::lease::LeaseState;
use crate::name::InvalidName;
use crate::template::Timestamp;

/// Why a request failed. `Display` states what is wrong, the rule, and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Malformed or out-of-range input: the field and its rule.
    #[error(transparent)]
    Invalid(#[from] InvalidName),
    /// No such pool.
    #[error("there is no pool \"{pool}\"; {}", missing_pool_hint(.pool, .hint))]
    PoolNotFound {
        /// Its name.
        pool: String,
        /// What else is known about it; empty when nothing is.
        hint: String,
    },
    /// No such template; the text lists the existing ones.
    #[error("{0}")]
    TemplateNotFound(String),
    /// No such lease, or it ended more than 24 hours ago.
    #[error("there is no lease {0}; the catalog keeps a lease for 24 hours after its end")]
    LeaseNotFound(String),
    /// No such database in the catalog.
    #[error("{0}")]
    DatabaseNotFound(String),
    /// The pool has live leases.
    #[error(
        "pool \"{pool}\" has {live} live lease(s), held by {holders}; release them, or drop it with ?force=true, which revokes them"
    )]
    PoolInUse {
        /// The pool.
        pool: String,
        /// The number of live leases.
        live: usize,
        /// Their holders, for display.
        holders: String,
    },
    /// The template has live leases.
    #[error("the template has {live} live lease(s), held by {holders}; release them first")]
    TemplateInUse {
        /// The number of live leases.
        live: usize,
        /// Their holders, for display.
        holders: String,
    },
    /// The build expired, was abandoned or was replaced.
    #[error("this build token is no longer valid: {0}; PUT the template again to learn the current builder")]
    BuildTokenStale(String),
    /// Seal, renew or abandon of a template that is not being built.
    #[error("{0}")]
    TemplateNotBuilding(String),
    /// A request without fingerprint, while callers use several templates of the pool.
    #[error(
        "pool \"{pool}\" has no single template in use: its current one is \"{current}\", and others have leases, waiters or announced runs: {}; name the fingerprint",
        quoted(.others)
    )]
    TemplateAmbiguous {
        /// The pool.
        pool: String,
        /// The fingerprint of its current template.
        current: String,
        /// Those of the others in use.
        others: Vec<String>,
    },
    /// A live lease has the same key and another fingerprint.
    #[error("{0}")]
    LeaseConflict(String),
    /// Databases that pgdibs did not create have names of the pool.
    #[error("these databases have names of pool \"{pool}\", but pgdibs did not create them: {}. Drop them if they are not needed, or choose another pool name:\n{}", .names.join(", "), dropdb_lines(.names))]
    ForeignDatabases {
        /// The pool.
        pool: String,
        /// The databases.
        names: Vec<String>,
    },
    /// The request exceeds a limit that waiting does not lift.
    #[error("{0}")]
    CapacityExceeded(String),
    /// The lease has ended.
    #[error("lease {id} was {} at {ended}: {reason}", .state.as_str())]
    LeaseEnded {
        /// Its id.
        id: String,
        /// Its final state.
        state: LeaseState,
        /// When, as text.
        ended: String,
        /// Why.
        reason: String,
        /// When.
        at: Option<Timestamp>,
    },
    /// The run has ended.
    #[error("run {0} has ended; start a new test session with a new run id")]
    RunEnded(String),
    /// The daemon's build failed; the text has the step and the last lines of its output.
    #[error("{0}")]
    TemplateFailed(String),
    /// The wait timed out without a free database; the text lists the holders.
    #[error("{0}")]
    PoolExhausted(String),
    /// The wait timed out while the template was being built.
    #[error("{0}")]
    TemplateBuilding(String),
    /// Postgres does not respond.
    #[error("the Postgres server is not available: {0}; try again")]
    ServerUnavailable(String),
    /// Too little free disk space for a clone.
    #[error("{0}")]
    DiskFloor(String),
    /// The daemon is about to exit.
    #[error("the daemon is shutting down; try again after its restart")]
    ShuttingDown,
    /// A bug; the text goes to the log, not to the client.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// [`Error::PoolNotFound`] of which nothing else is known.
    pub fn pool_not_found(pool: impl ToString) -> Self {
        Self::PoolNotFound { pool: pool.to_string(), hint: String::new() }
    }
}

fn missing_pool_hint(pool: &str, hint: &str) -> String {
    match hint {
        "" => format!("make it with PUT /v1/pools/{pool} or `pgdibs pool set {pool}`"),
        hint => hint.to_owned(),
    }
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

fn dropdb_lines(names: &[String]) -> String {
    names.iter().map(|name| format!("dropdb '{}'", name.replace('\'', "'\\''"))).collect::<Vec<_>>().join("\n")
}

/// How a step failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError {
    /// The catalog or the server has changed since the snapshot. The step changed nothing; the next plan uses a new snapshot.
    #[error("changed since the plan: {0}")]
    Stale(String),
    /// Postgres returned an error or the step timed out. The row records it, and the reconciler retries later.
    #[error("{0}")]
    Failed(String),
    /// The server does not respond. The attempt is not counted.
    #[error("the server is not available: {0}")]
    Unavailable(String),
}
