//! What the benchmark is asked to do.

use std::time::Duration;

/// How long and how wide the benchmark measures, and how its daemon is started.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How long each side of a round of the throughput comparison lasts.
    pub(crate) seconds: Duration,
    /// Rounds of that comparison.
    pub(crate) rounds: u32,
    /// Callers, and threads of plain Postgres.
    pub(crate) callers: u32,
    /// Where the server's programs are, when not where they are looked for.
    pub(crate) pg_bin_dir: Option<String>,
    /// The daemon's log filter; without one its log is shown only when it does not start.
    pub(crate) log: Option<String>,
}
