//! Support for the tests of this binary: backends on throw-away clusters, and clients that bypass pgdibs.

pub(crate) mod external;
pub(crate) mod own_share;
pub(crate) mod setting;

use std::task::Poll;

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
