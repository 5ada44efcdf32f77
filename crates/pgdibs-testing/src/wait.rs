//! Waits of tests: polls with one deadline, futures in threads without a runtime, and a stop flag for threads.

use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};

/// The deadline of every wait, long enough for a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The time between two polls. A tighter loop would take the processor from the awaited work.
const POLL: Duration = Duration::from_millis(10);

/// Polls until `check` succeeds; the panic message has its last error.
#[track_caller]
pub fn until<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match check() {
            Ok(seen) => return seen,
            Err(seen) => assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}; last seen: {seen}"),
        }
        // A poll with a deadline.
        std::thread::sleep(POLL);
    }
}

/// The same for a check that awaits.
pub async fn until_async<T>(what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match check().await {
            Ok(seen) => return seen,
            Err(seen) => assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}; last seen: {seen}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Runs a future on the shared runtime.
pub fn block<T: Send>(future: impl Future<Output = T> + Send) -> T {
    if Handle::try_current().is_err() {
        return runtime().block_on(future);
    }
    // A thread of a runtime may not block on another runtime.
    let joined = std::thread::scope(|scope| scope.spawn(|| runtime().block_on(future)).join());
    joined.unwrap_or_else(|panic| resume_unwind(panic))
}

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// Sets the stop flag of other threads on drop.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
