//! `pgdibs bench`: runs the benchmark and shows its table.

use std::process::ExitCode;
use std::time::Duration;

use super::args::BenchArgs;
use super::context::Context;
use super::error::CliError;
use super::progress::Progress;
use super::table::table;
use crate::bench::{self, Options};

/// Measures and shows.
///
/// # Errors
/// When something did not work. A missed goal is none.
pub(super) async fn bench(context: &Context, args: BenchArgs) -> Result<ExitCode, CliError> {
    let options = Options {
        seconds: Duration::from_secs(u64::from(args.seconds)),
        rounds: args.rounds,
        callers: args.callers,
        pg_bin_dir: args.pg_bin_dir,
        log: context.global.get("log").map(str::to_owned),
    };
    let progress = Progress::start("starting");
    let report = bench::run(&options, |stage| progress.now(stage)).await;
    drop(progress);
    let report = report.map_err(|error| {
        CliError::failed(error.to_string()).hint("--log debug shows the log of the benchmark's daemon")
    })?;
    context.output.result(&report.json(), || {
        let (header, rows) = report.table();
        format!("{}\n\n{}", report.title, table(&header, rows, context.output.colour))
    })?;
    Ok(ExitCode::SUCCESS)
}
