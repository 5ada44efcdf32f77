//! What the daemon reports about itself, its server and its reconciler.

use pgdibs_api::status::{Daemon, Finding, Reconciler};

/// What the catalog does not know: facts about this daemon, its server and its reconciler. Must answer without waiting.
pub trait StatusSource: Send + Sync + 'static {
    /// The daemon itself.
    fn daemon(&self) -> Daemon;
    /// The server that it manages.
    fn server(&self) -> ServerStatus;
    /// The reconciler's last plan and its last steps.
    fn reconciler(&self) -> Reconciler;
    /// Why callers wait though the daemon is ready.
    fn delays(&self) -> Vec<String>;
    /// Why the daemon is not ready; empty when it is.
    fn unready(&self) -> Vec<String>;
}

/// What the daemon knows about the server without a snapshot.
#[derive(Debug, Clone, Default)]
pub struct ServerStatus {
    /// Its version, such as `15.8`, once it has answered.
    pub version: Option<String>,
    /// What its owner should know: limits that are too low, what work waits for.
    pub warnings: Vec<String>,
    /// What of it slows tests down or breaks them.
    pub findings: Vec<Finding>,
    /// Directories that a crash in the middle of a clone left behind; `None` when the daemon may not read them.
    pub orphans: Option<Vec<u32>>,
}
