//! What the tests of this binary stand on: throw-away clusters, worlds on them, and hands that reach around pgdibs.

pub(crate) mod cluster;
pub(crate) mod hands;
pub(crate) mod seed;
pub(crate) mod setting;

use std::time::{Duration, Instant};

/// Long enough for a loaded machine; nothing waits for it to pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until the look finds nothing to complain about; fails with the last complaint when it does not in time.
pub(crate) async fn until(what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(seen) = look().await {
        assert!(Instant::now() < deadline, "not in {DEADLINE:?}: {what}; last seen: {seen}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
