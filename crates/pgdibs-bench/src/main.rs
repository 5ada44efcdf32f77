//! `pgdibs-bench`: measures pgdibs beside plain Postgres on this machine, and prints measurements beside goals.
//!
//! It compares both on one server in one run, in turns, and reports medians, because machines and their load differ. A slow result is
//! no failure. The program is not shipped.

mod api;
mod args;
mod daemon;
mod error;
mod latency;
mod measure;
mod plain;
mod processor;
mod results;
mod scale;
mod template;
mod throughput;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Format, Options};

fn main() -> ExitCode {
    let options = Options::parse().reduced();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed =
                writeln!(std::io::stderr(), "pgdibs-bench: {error}\nhint: --log debug shows the log of its daemon");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let terminal = std::io::stderr().is_terminal();
    let progress = |stage: String| {
        if terminal {
            let _closed = writeln!(std::io::stderr(), "{stage} …");
        }
    };
    let report = runtime.block_on(measure::run(options, progress))?;
    let text = match options.output {
        Format::Json => report.json().to_string(),
        Format::Text => format!("{}\n\n{}", report.title, report.table()),
    };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(())
}
