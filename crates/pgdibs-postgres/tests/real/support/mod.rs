//! What the tests of this binary stand on: throw-away clusters, worlds on them, and hands that reach around pgdibs.

pub(crate) mod cluster;
pub(crate) mod hands;
pub(crate) mod seed;
pub(crate) mod setting;

use std::task::Poll;
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

/// Runs all of them at the same time; the answers in their order.
pub(crate) async fn at_once<F: Future>(asked: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut asked: Vec<_> = asked.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (one, answer) in asked.iter_mut().filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(ready) = one.as_mut().poll(context) {
                *answer = Some(ready);
            }
        }
        if asked.iter().all(|(_, answer)| answer.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    asked.into_iter().filter_map(|(_, answer)| answer).collect()
}
