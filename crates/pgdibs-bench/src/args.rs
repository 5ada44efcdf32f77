//! The flags of `pgdibs-bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The format of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Measure this pgdibs on this machine, beside plain Postgres
///
/// Starts two daemons with embedded servers and a template of 50 tables, and prints measurements beside goals: the latencies of one
/// caller and of many, cycles per second beside those of CREATE DATABASE and DROP DATABASE on the same server in the same run, and what
/// grows with the number of databases. It compares each database that it acquires with the template, and stops at one that differs. It
/// does not use your data, and removes its own. A missed goal is no failure.
#[derive(Debug, Parser)]
#[command(
    name = "pgdibs-bench",
    version,
    after_help = "\
Examples:
  pgdibs-bench
  pgdibs-bench --quick
  pgdibs-bench --seconds 10 --rounds 5 --output json"
)]
pub(crate) struct Options {
    /// How long each side of a round of the throughput comparison lasts
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=600), default_value = "3")]
    pub(crate) seconds: u16,
    /// Rounds of the throughput comparison
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), default_value = "3")]
    pub(crate) rounds: u32,
    /// Concurrent callers, and threads of plain Postgres
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), default_value = "8")]
    pub(crate) callers: u32,
    /// Ready databases of the second daemon, which shows what grows with their number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=1000), default_value = "1000")]
    pub(crate) ready: u32,
    /// Callers that wait for one database at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(50..=1000), default_value = "1000")]
    pub(crate) waiters: u32,
    /// Less of everything, within a minute
    #[arg(long, conflicts_with_all = ["seconds", "rounds", "ready", "waiters"])]
    pub(crate) quick: bool,
    /// The directory of initdb and postgres [default: that of pg_config, /usr/lib/postgresql/*/bin, Homebrew]
    #[arg(long, value_name = "PATH", env = "PGDIBS_PG_BIN_DIR")]
    pub(crate) pg_bin_dir: Option<String>,
    /// The program to measure [default: the `pgdibs` beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) pgdibs: Option<PathBuf>,
    /// The log filter of the benchmark's daemon [default: error]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// The format of the report
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
}

impl Options {
    /// The options that `--quick` stands for.
    pub(crate) fn reduced(self) -> Self {
        if self.quick { Self { seconds: 1, rounds: 2, ready: 100, waiters: 100, ..self } } else { self }
    }

    /// The duration of each side of a round.
    pub(crate) fn side(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }
}
