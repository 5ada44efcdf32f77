//! What the daemon reports about itself, its server and its reconciler.

use std::time::Duration;

use pgdibs_core::template::Timestamp;

/// What the catalog does not know: facts about this daemon, its server and its reconciler. Must answer without waiting.
pub trait StatusSource: Send + Sync + 'static {
    /// About the daemon itself.
    fn daemon(&self) -> DaemonStatus;
    /// About the server behind it.
    fn server(&self) -> ServerStatus;
    /// About the reconciler's last plan.
    fn reconciler(&self) -> ReconcilerStatus;
    /// Why the daemon is not ready; empty when it is.
    fn unready(&self) -> Vec<String>;
}

/// About the daemon itself.
#[derive(Debug, Clone)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Its number in the catalog.
    pub instance: String,
    /// When it started.
    pub started_at: Timestamp,
    /// How long ago that is.
    pub uptime: Duration,
    /// Whether it is the one that carries out steps.
    pub reconciling: bool,
}

/// About the server.
#[derive(Debug, Clone, Default)]
pub struct ServerStatus {
    /// Its version, such as `15.8`, once it has answered.
    pub version: Option<String>,
    /// What its owner should know: limits that are too low, missing privileges.
    pub warnings: Vec<String>,
    /// Directories that a crash in the middle of a clone left behind; `None` when the daemon may not read them.
    pub orphans: Option<Vec<u32>>,
}

/// About the reconciler's last plan.
#[derive(Debug, Clone, Default)]
pub struct ReconcilerStatus {
    /// When it last planned.
    pub planned_at: Option<Timestamp>,
    /// The steps it planned, as text.
    pub plan: Vec<String>,
    /// What became of the last steps, newest last.
    pub report: Vec<ReportLine>,
}

/// What became of a step.
#[derive(Debug, Clone)]
pub struct ReportLine {
    /// The step, as text.
    pub step: String,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
}
