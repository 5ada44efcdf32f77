//! `pgdibs-bench`: measures pgdibs beside plain Postgres on this machine, and prints measurements beside goals.
//!
//! It compares both on one server in one run, in turns, and reports medians, because machines and their load differ. A missed goal is no
//! failure. The program is not shipped.

mod api;
mod args;
mod churn;
mod daemon;
mod environment;
mod error;
mod latency;
mod measure;
mod picture;
mod plain;
mod processor;
mod progress;
mod results;
mod scale;
mod server;
mod session;
mod template;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Format, Options};
use self::error::BenchError;
use self::results::Results;

/// Around the results in a page.
const MARKERS: [&str; 2] = ["<!-- bench -->\n", "<!-- /bench -->"];

fn main() -> ExitCode {
    let options = Options::parse();
    let mut results = Results::default();
    let measured = run(&options, &mut results);
    // What a broken pgdibs does fast is no result.
    let printed = match &measured {
        Err(BenchError::Broken(_)) => Ok(()),
        _ => print(&options, &results),
    };
    match measured.and(printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "pgdibs-bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(options: &Options, results: &mut Results) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| BenchError::Unusable(error.to_string()))?;
    runtime.block_on(measure::run(options, results))
}

/// Prints the results, and writes the files.
fn print(options: &Options, results: &Results) -> Result<(), BenchError> {
    let text = match options.output {
        Format::Json => results.json().to_string(),
        Format::Text => results.text(),
    };
    // A closed pipe is no reason not to write the files.
    let _closed = writeln!(std::io::stdout(), "{text}");
    options.write.iter().try_for_each(|path| {
        let failed = |why: String| BenchError::File { path: path.display().to_string(), why };
        let text = file(path, results).map_err(failed)?;
        std::fs::write(path, text).map_err(|error| failed(error.to_string()))
    })
}

/// The contents of a file of this name.
fn file(path: &Path, results: &Results) -> Result<String, String> {
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("json") => Ok(format!("{:#}\n", results.json())),
        Some("svg") if results.pairs.is_empty() => Err("the part `churn` was not measured".to_owned()),
        Some("svg") => Ok(picture::svg(&results.title, &results.pairs)),
        _ => {
            let page = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            within_markers(&page, &results.markdown())
        }
    }
}

/// The page with the results in place of what is between the markers.
fn within_markers(page: &str, results: &str) -> Result<String, String> {
    let [begin, end] = MARKERS;
    let parts = page.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("the page has no {} and {end}", begin.trim_end()))?;
    Ok(format!("{before}{begin}\n{results}\n\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_replace_what_is_between_markers() {
        let page = "# Title\n<!-- bench -->\nold\n<!-- /bench -->\nend\n";
        let written = within_markers(page, "new").unwrap();
        assert_eq!(written, "# Title\n<!-- bench -->\n\nnew\n\n<!-- /bench -->\nend\n");
        assert_eq!(within_markers(&written, "new").unwrap(), written);
        assert!(within_markers("# Title\n", "new").unwrap_err().contains("no <!-- bench -->"));
    }
}
