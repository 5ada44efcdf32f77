//! Copies logs, pages and standard errors of tests for the search for secrets at the end of a run, if there is one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use pgdibs::Method;

use super::Api;

/// The pages of a daemon, which must not contain secrets.
const PAGES: [&str; 7] =
    ["/v1/status", "/metrics", "/readyz", "/v1/pools", "/v1/leases?state=all", "/v1/databases", "/v1/pools/unknown"];

/// `scripts/run-tasks.py` sets the directory.
fn place(kind: &str) -> Option<PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let directory = PathBuf::from(std::env::var_os("PGDIBS_TEST_LOGS")?);
    std::fs::create_dir_all(&directory).ok()?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some(directory.join(format!("{kind}-e2e-{}-{number}.log", std::process::id())))
}

/// Copies a log before its deletion.
pub(crate) fn keep_log(kind: &str, log: &Path) {
    if let Some(place) = place(kind) {
        // The log is missing if the process never started.
        let _missing = std::fs::copy(log, place);
    }
}

/// Copies the standard error of a program.
pub(crate) fn keep_text(kind: &str, text: &str) {
    if let Some(place) = place(kind).filter(|_| !text.is_empty()) {
        std::fs::write(place, text).unwrap();
    }
}

/// Copies the pages of a daemon.
pub(crate) fn keep_pages(api: &Api) {
    let Some(place) = place("pages") else { return };
    let mut text = String::new();
    for page in PAGES {
        match api.try_call(Method::GET, page, None) {
            Ok(answer) => text.push_str(&format!("GET {page}: {} {}\n", answer.status, answer.body)),
            Err(error) => text.push_str(&format!("GET {page}: {error}\n")),
        }
    }
    std::fs::write(place, text).unwrap();
}
