//! The flags of `pgdibs bench`.

use clap::Args;

/// Measure this pgdibs on this machine, beside plain Postgres
///
/// Starts a daemon and an embedded server of its own, with a template of 50 tables, and shows what was measured beside what pgdibs
/// promises: latencies as one caller sees them, and cycles per second beside CREATE DATABASE and DROP DATABASE on the same server in
/// the same run. Nothing of yours is touched, and nothing is left. A goal that is missed is no failure.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pgdibs bench
  pgdibs bench --seconds 10 --rounds 5 --output json")]
pub(in crate::cli) struct BenchArgs {
    /// How long each side of a round of the throughput comparison lasts
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=600), default_value = "3")]
    pub(in crate::cli) seconds: u16,
    /// Rounds of the throughput comparison
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), default_value = "3")]
    pub(in crate::cli) rounds: u32,
    /// Callers at once, and as many threads of plain Postgres
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), default_value = "8")]
    pub(in crate::cli) callers: u32,
    /// Where initdb and postgres are [default: pg_config, /usr/lib/postgresql/*/bin, Homebrew]
    #[arg(long, value_name = "PATH", env = "PGDIBS_PG_BIN_DIR")]
    pub(in crate::cli) pg_bin_dir: Option<String>,
}
