//! The flags of `pgdibs diagnose`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::seconds::seconds;

/// Say where a test run's time goes, and which layout of workers is quickest
///
/// Runs shortened forms of the command, each three times, interleaved: interpreter start, import of the conftest, collection (with and
/// without coverage), one small test file, and a sample of the tests on 1, 2, 4, … workers at once, up to twice the cores. From these and
/// the tests' durations it predicts the wall time of layouts, recommends one, and names what to change first.
///
/// What runs a test runs on a database leased from the daemon; everything else gets variables that lead to no server. Without a daemon no
/// test runs. Files that pytest, coverage and Python write beside the tests go to a temporary directory; what the tests write themselves is
/// theirs.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  pgdibs diagnose -- pytest tests/ -n 4
  pgdibs diagnose --quick -- uv run pytest
  pgdibs diagnose --durations-from junit.xml -- pytest tests/       a suite of two hours need not run
  pgdibs diagnose --html report.html -- python -m pytest
  pgdibs diagnose --output json -- pytest | jq '.layouts[] | select(.is_recommended)'
  pgdibs diagnose -- npm test                                       not pytest: start, several at once, database

Durations come from `.test_durations` of pytest-split in the root of the project if it exists, otherwise from one run of all tests in one
process. Ctrl-C prints what is known so far, and exits with 130. In GitHub Actions the report is also appended to the job's summary.

Exit codes: 0 if the command was measured, 1 if it could not be (it fails at collection, there is no pytest in it, it hangs).")]
pub(crate) struct DiagnoseArgs {
    /// Measure for at most 60 seconds: fewer repetitions, smaller samples
    #[arg(long)]
    pub(crate) quick: bool,
    /// Durations of tests: a JUnit file of pytest, or the file of pytest-split [default: .test_durations, else one run]
    #[arg(long, value_name = "FILE")]
    pub(crate) durations_from: Option<PathBuf>,
    /// Lease from this pool [default: the project's, else a pool of empty databases that is dropped afterwards]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// Write the report as one HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// How often each thing is measured; more on a machine that does other work
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), default_value = "3")]
    pub(crate) runs: u32,
    /// How long one run of the command may take before it is ended
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1800")]
    pub(crate) timeout: f64,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
