//! Errors by meaning. The edge turns each into a status in one `match`; nothing inside knows HTTP.

use crate::lease::LeaseState;
use crate::name::InvalidName;
use crate::template::Timestamp;

/// Why a request was refused or could not be served. `Display` is a sentence for people that says what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Malformed or out-of-range input: the field and its rule.
    #[error(transparent)]
    Invalid(#[from] InvalidName),
    /// No such pool.
    #[error("there is no pool \"{0}\"; make it with PUT /v1/pools/{0} or `pgdibs pool set {0}`")]
    PoolNotFound(String),
    /// No such template; the text says what there is instead.
    #[error("{0}")]
    TemplateNotFound(String),
    /// No such lease, or it ended more than 24 hours ago.
    #[error("there is no lease {0}; leases are remembered for 24 hours after their end")]
    LeaseNotFound(String),
    /// No such database of ours.
    #[error("{0}")]
    DatabaseNotFound(String),
    /// The pool has live leases.
    #[error(
        "pool \"{pool}\" has {live} live lease(s), held by {holders}; release them, or drop it with ?force=true, which revokes them"
    )]
    PoolInUse {
        /// The pool.
        pool: String,
        /// How many leases are live.
        live: usize,
        /// By whom, in words.
        holders: String,
    },
    /// The template has live leases.
    #[error("the template has {live} live lease(s), held by {holders}; release them first")]
    TemplateInUse {
        /// How many leases are live.
        live: usize,
        /// By whom, in words.
        holders: String,
    },
    /// The build was lost to silence, abandoned or replaced.
    #[error("this build token is no longer valid: {0}; PUT the template again to see who builds it now")]
    BuildTokenStale(String),
    /// Seal, renew or abandon of something that is not being built.
    #[error("{0}")]
    TemplateNotBuilding(String),
    /// The same key with another fingerprint.
    #[error("{0}")]
    LeaseConflict(String),
    /// The pool's names meet databases that are not ours.
    #[error("these databases carry names of pool \"{pool}\" but were not made by pgdibs: {}. Drop them if nobody needs them:\n{}", .names.join(", "), dropdb_lines(.names))]
    ForeignDatabases {
        /// The pool.
        pool: String,
        /// The databases.
        names: Vec<String>,
    },
    /// More than can ever fit.
    #[error("{0}")]
    CapacityExceeded(String),
    /// The lease is over.
    #[error("lease {id} was {} at {ended}: {reason}", .state.as_str())]
    LeaseEnded {
        /// Its id.
        id: String,
        /// How it ended.
        state: LeaseState,
        /// When, as text.
        ended: String,
        /// Why.
        reason: String,
        /// When.
        at: Option<Timestamp>,
    },
    /// The run is over.
    #[error("run {0} has ended; a new test session makes a run id of its own")]
    RunEnded(String),
    /// The daemon's own build failed; the text carries the step and the last lines of its output.
    #[error("{0}")]
    TemplateFailed(String),
    /// Waited, and no database came; the text says who holds what.
    #[error("{0}")]
    PoolExhausted(String),
    /// Waited, and the template is still being built.
    #[error("{0}")]
    TemplateBuilding(String),
    /// Postgres does not answer.
    #[error("the Postgres server is not available: {0}; try again")]
    ServerUnavailable(String),
    /// Too little disk space to clone.
    #[error("{0}")]
    DiskFloor(String),
    /// The daemon is about to exit.
    #[error("the daemon is shutting down; try again when it is back")]
    ShuttingDown,
    /// A bug; the text is for the log, not for the client.
    #[error("internal error: {0}")]
    Internal(String),
}

fn dropdb_lines(names: &[String]) -> String {
    names.iter().map(|name| format!("dropdb '{}'", name.replace('\'', "'\\''"))).collect::<Vec<_>>().join("\n")
}

/// How a step failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError {
    /// The rows or the server were not as the plan expected. Nothing was done; the next plan will know better.
    #[error("changed meanwhile: {0}")]
    Stale(String),
    /// Postgres refused or the step took too long. It is written into the row and tried again later.
    #[error("{0}")]
    Failed(String),
    /// The server is gone. No attempt is counted.
    #[error("the server is not available: {0}")]
    Unavailable(String),
}
