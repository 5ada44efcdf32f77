//! `pgdibs-bench`: measures pgdibs on this machine beside plain Postgres, and prints each goal beside what was measured.
//!
//! Everything is compared within one run on one server, in turns, and reported as medians: machines and their other work differ.
//! It never fails because something was slow, only because something did not work. It is never shipped.

mod api;
mod args;
mod daemon;
mod error;
mod latency;
mod measure;
mod plain;
mod processor;
mod report;
mod template;
mod throughput;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Format, Options};

fn main() -> ExitCode {
    let options = Options::parse();
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
