//! What a test leaves for the search for secrets at the end of a run: logs, pages, standard errors. Without a run there is none.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use pgdibs::Method;

use super::Api;

/// Everything that a daemon tells to whoever may ask, and that must show no secret.
const PAGES: [&str; 7] =
    ["/v1/status", "/metrics", "/readyz", "/v1/pools", "/v1/leases?state=all", "/v1/databases", "/v1/pools/nowhere"];

/// `scripts/run-tasks.py` names the directory.
fn place(kind: &str) -> Option<PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let directory = PathBuf::from(std::env::var_os("PGDIBS_TEST_LOGS")?);
    std::fs::create_dir_all(&directory).ok()?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some(directory.join(format!("{kind}-e2e-{}-{number}.log", std::process::id())))
}

/// Keeps a copy of a log that goes with its test.
pub(crate) fn keep_log(kind: &str, log: &Path) {
    if let Some(place) = place(kind) {
        // A test that never started what it is about has no log.
        let _missing = std::fs::copy(log, place);
    }
}

/// Keeps what a program said on its standard error.
pub(crate) fn keep_text(kind: &str, text: &str) {
    if let Some(place) = place(kind).filter(|_| !text.is_empty()) {
        std::fs::write(place, text).unwrap();
    }
}

/// Keeps what a daemon shows.
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
