//! Shared support of the end-to-end tests: directories, clusters, daemons, callers and sessions.

pub(crate) mod api;
pub(crate) mod callers;
pub(crate) mod cluster;
pub(crate) mod contents;
pub(crate) mod daemon;
pub(crate) mod kept;
pub(crate) mod ledger;
pub(crate) mod place;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod readiness;
pub(crate) mod renewer;
pub(crate) mod session;
pub(crate) mod stage;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::{Builder, Runtime};

pub(crate) use api::Api;
pub(crate) use cluster::Cluster;
pub(crate) use daemon::Daemon;
pub(crate) use place::Place;
pub(crate) use program::pgdibs;
pub(crate) use proxy::{Link, Proxy};
pub(crate) use session::Session;
pub(crate) use stage::Stage;

/// The deadline of every wait, long enough for a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The time between two polls.
const POLL: Duration = Duration::from_millis(20);

/// Polls until `check` succeeds; the panic message has its last error.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match check() {
            Ok(seen) => return seen,
            Err(seen) => assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}; last seen: {seen}"),
        }
        // Level-triggered: `check` has no side effect, and a tighter loop would take the processor from the awaited work.
        std::thread::sleep(POLL);
    }
}

/// Runs a future on the shared runtime.
pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// Sets the stop flag of other threads on drop.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A unique pool name.
pub(crate) fn pool_name(what: &str) -> String {
    format!("{what}_{}", &uuid::Uuid::new_v4().simple().to_string()[..6])
}

/// Sends a signal; a process that has ended is ignored.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// The Postgres programs from the test's environment; without them the daemon searches for an installation.
pub(crate) fn bin_dir() -> Option<String> {
    std::env::var("PGDIBS_TEST_PG_BIN_DIR").ok().filter(|dir| !dir.is_empty())
}
