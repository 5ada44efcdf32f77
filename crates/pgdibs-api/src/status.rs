//! The status: the daemon, its server, pools, leases, databases, waiters and runs at one moment.

use std::collections::BTreeMap;

use pgdibs_core::request::TicketKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::database::Database;
use crate::lease::Lease;
use crate::pool::Pool;
use crate::run::RunStatus;

/// Everything that one page needs.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The daemon that answers.
    pub daemon: Daemon,
    /// The server that it manages.
    pub server: Server,
    /// When all that follows was read, by the server's clock; ages are the time since their start until then.
    #[serde(default)]
    #[schema(required = true, format = DateTime)]
    pub taken_at: String,
    /// All pools.
    pub pools: Vec<Pool>,
    /// Live leases, without credentials.
    pub leases: Vec<Lease>,
    /// All databases.
    pub databases: Vec<Database>,
    /// Callers that wait.
    pub waiters: Vec<Waiter>,
    /// Announced runs.
    pub runs: Vec<RunStatus>,
    /// The reconciler's last plan and its last steps.
    pub reconciler: Reconciler,
    /// The last 15 minutes in buckets of 15 seconds, oldest first; the last one still runs. A daemon that started later has fewer.
    // A daemon of a lower level has none.
    #[serde(default)]
    #[schema(required = true)]
    pub history: Vec<HistoryBucket>,
    /// What of the server slows tests down or breaks them, the worst first; at most ten minutes old. `pgdibs doctor` measures more.
    // Older daemons have none.
    #[serde(default)]
    #[schema(required = true)]
    pub findings: Vec<Finding>,
}

/// What happened in 15 seconds, as far as the daemon that answers knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryBucket {
    /// Leases that were granted.
    pub grants: u64,
    /// The wait that 95 % of these grants did not exceed.
    pub wait_p95_seconds: Option<f64>,
    /// The median time of the clones that were made.
    pub clone_p50_seconds: Option<f64>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingSeverity {
    /// It costs a little, or may surprise.
    Note,
    /// It costs much time, or breaks a run under load.
    Warning,
    /// Runs fail.
    Error,
    /// A value that a newer daemon has added.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// One thing that slows tests down or breaks them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The name of the check, such as `fsync`.
    pub check: String,
    /// How bad it is.
    pub severity: FindingSeverity,
    /// What is set, what tests want, and why.
    pub title: String,
    /// The line that changes it, or several: what to do.
    pub fix: Option<String>,
}

/// The daemon that answers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// The level of its API, which every answer carries in the header `Pgdibs-Api`. It grows with each addition.
    // A daemon of level 0 sends none.
    #[serde(default)]
    #[schema(required = true)]
    pub api_level: u32,
    /// Its number in the catalog.
    pub instance: String,
    /// When it started.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// The time since then.
    pub uptime_seconds: f64,
    /// Whether it is the leader, which alone carries out steps.
    pub reconciling: bool,
    /// Whether leases can be acquired.
    pub ready: bool,
    /// The reasons if they cannot.
    pub reasons: Vec<String>,
}

/// The server that the daemon manages.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Server {
    /// Its version, such as `15.8`, once it has answered.
    pub version: Option<String>,
    /// Whether it answers.
    pub reachable: bool,
    /// The error, if it does not answer.
    pub detail: Option<String>,
    /// Its addresses as callers see them; `via` names one.
    pub addresses: BTreeMap<String, Address>,
    /// What bounds the pools.
    pub limits: Limits,
    /// Directories that a crash in the middle of a clone left behind; null when the daemon may not look.
    pub orphan_directories: Option<Vec<String>>,
    /// What its owner should know: limits that are too low, what work waits for.
    pub warnings: Vec<String>,
}

/// An address of the server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What bounds the pools.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Slots that `max_connections` leaves room for.
    pub slots_by_connections: Option<u32>,
    /// Free space where clones are written.
    pub free_disk_bytes: Option<u64>,
    /// No clone is made below this much free space.
    pub disk_floor_bytes: u64,
    /// Whether there is less.
    pub below_disk_floor: bool,
}

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaiterKind {
    /// Ready databases.
    Acquire,
    /// Ready databases in the slots of its workers.
    Exact,
    /// A spare for a live lease.
    Reset,
    /// A value that a newer daemon has added.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl From<TicketKind> for WaiterKind {
    fn from(kind: TicketKind) -> Self {
        match kind {
            TicketKind::Acquire => Self::Acquire,
            TicketKind::Exact => Self::Exact,
            TicketKind::Reset => Self::Reset,
        }
    }
}

/// A caller that waits.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Waiter {
    /// Its place: grants go in the order of tickets.
    pub ticket: i64,
    /// The pool that it waits for.
    pub pool: String,
    /// The template that it waits for.
    pub fingerprint: Option<String>,
    /// What it waits for.
    pub wants: WaiterKind,
    /// How many databases.
    pub count: u32,
    /// The run that it acquires for, or that its lease belongs to.
    // Absent in answers of a daemon of level 0.
    #[serde(default)]
    #[schema(required = true)]
    pub run: Option<String>,
    /// The worker of that run; null for a batch of several.
    #[serde(default)]
    #[schema(required = true)]
    pub worker: Option<String>,
    /// Free text about the caller.
    #[serde(default)]
    #[schema(required = true)]
    pub holder: String,
    /// For how long.
    pub waited_seconds: f64,
}

/// The reconciler's last plan and its last steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Reconciler {
    /// When it last planned.
    #[schema(format = DateTime)]
    pub planned_at: Option<String>,
    /// The steps of that plan.
    pub plan: Vec<String>,
    /// The last steps and what became of them, newest last.
    pub report: Vec<StepReport>,
}

/// A step and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StepReport {
    /// The step.
    pub step: String,
    /// How long it took.
    pub took_seconds: f64,
    /// Why it failed.
    pub error: Option<String>,
}
