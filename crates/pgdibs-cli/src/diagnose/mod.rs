//! `pgdibs diagnose`: where a test run's time goes, which layout of workers is quickest, and what to change first.

mod advice;
mod budget;
mod command;
mod databases;
mod document;
mod durations;
mod events;
mod measure;
mod measured;
mod model;
mod other;
mod page;
mod repeated;
mod runner;
mod sample;
mod samples;
mod schedule;
mod screen;
mod take;

use std::io::Write;
use std::time::Duration;

use self::budget::Budget;
use self::command::UserCommand;
use self::measure::Measurement;
use self::measured::Measured;
use self::runner::Runner;
use super::args::DiagnoseArgs;
use super::context::Context;
use super::error::{CliError, FAILED};
use super::inherited::Inherited;
use super::output::message;
use super::signals::exit_code_of;

/// How long `--quick` may take.
const QUICK: Duration = Duration::from_secs(60);

/// Measures the command and prints the report; returns the exit code.
///
/// # Errors
/// A file cannot be read or written.
pub(super) async fn diagnose(context: &Context, args: DiagnoseArgs) -> Result<u8, CliError> {
    let mut runner = Runner::new()?;
    databases::set_unavailable(&mut runner, &Inherited::of_this_process());
    let budget = Budget::new(args.quick.then_some(QUICK), Duration::from_secs_f64(args.timeout));
    let measured = Measured {
        command: super::command::display(&args.command),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        is_quick: args.quick,
        shards: 1,
        ..Measured::default()
    };
    let command = UserCommand::new(&args.command);
    let is_pytest = command.is_pytest();
    let mut measurement = Measurement::new(context, command, runner, budget, measured);
    measurement.pool.clone_from(&args.pool);
    measurement.rounds = args.runs as usize;
    measurement.durations_from = args.durations_from.as_ref().map(|path| path.display().to_string());
    let signal = if is_pytest { measurement.run().await? } else { measurement.run_any().await };
    let Measurement { measured, progress, .. } = measurement;
    drop(progress);
    let layouts = model::layouts(&measured);
    add_to_summary(&screen::markdown(&measured, layouts.as_ref()));
    let colour = context.output.colour;
    context.output.result(&document::document(&measured, layouts.as_ref()), || {
        screen::screen(&measured, layouts.as_ref(), colour)
    })?;
    // Last, because a file that cannot be written must not lose what was measured.
    if let Some(path) = &args.html {
        std::fs::write(path, page::page(&measured, layouts.as_ref()))
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(match signal {
        Some(signal) => exit_code_of(signal as i32),
        None if measured.start_up.is_empty() && measured.interpreter.is_empty() || measured.has_failed => FAILED,
        None => 0,
    })
}

/// Appends the report to the summary of a GitHub Actions job.
fn add_to_summary(text: &str) {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else { return };
    let written = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = written {
        message(&format!("cannot append to the summary of the job, {}: {error}", path.to_string_lossy()));
    }
}
