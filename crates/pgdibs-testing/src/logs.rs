//! Copies logs, pages and standard errors of tests for the search for secrets at the end of a run, if there is one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// `scripts/run-tasks.sh` sets the directory.
fn place(kind: &str) -> Option<PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let directory = PathBuf::from(std::env::var_os("PGDIBS_TEST_LOGS")?);
    std::fs::create_dir_all(&directory).ok()?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some(directory.join(format!("{kind}-e2e-{}-{number}.log", std::process::id())))
}

/// Copies a log before its deletion.
pub fn keep_log(kind: &str, log: &Path) {
    if let Some(place) = place(kind) {
        // The log is missing if the process never started.
        let _missing = std::fs::copy(log, place);
    }
}

/// Copies the standard error of a program.
pub fn keep_text(kind: &str, text: &str) {
    if let Some(place) = place(kind).filter(|_| !text.is_empty()) {
        std::fs::write(place, text).unwrap();
    }
}

/// The end of a log, for the output of a failed test.
pub fn end_of(what: &str, log: &str) -> String {
    let from = log.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
    format!("the end of the log of {what}:\n{}", &log[from..])
}
