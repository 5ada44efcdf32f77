//! Support for the tests of this binary: throw-away clusters, backends on them, and clients that bypass pgdibs.

pub(crate) mod cluster;
pub(crate) mod external;
pub(crate) mod seed;
pub(crate) mod setting;

use std::task::Poll;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; no test waits until it has passed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until the check succeeds; fails with its last error when it does not in time.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(seen) = check().await {
        assert!(Instant::now() < deadline, "not in {DEADLINE:?}: {what}; last seen: {seen}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs all of them concurrently; the answers are in their order.
pub(crate) async fn at_once<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (one, answer) in futures.iter_mut().filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(ready) = one.as_mut().poll(context) {
                *answer = Some(ready);
            }
        }
        if futures.iter().all(|(_, answer)| answer.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, answer)| answer).collect()
}
