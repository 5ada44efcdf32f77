//! What grows with the number of databases or waiters, if anything does: acquires, the status, the daemon at rest, wake-ups.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgdibs::Method;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::api::{Api, POOL_BEHIND, POOL_OF_ONE, Size};
use crate::args::Effort;
use crate::error::BenchError;
use crate::latency::{milliseconds, timed_acquires};
use crate::processor::Meter;
use crate::results::Samples;
use crate::template;

/// Ready databases of the small pool; a batch takes all but one.
pub(crate) const FEW: u32 = 10;
/// Acquires at once.
pub(crate) const BURST: u32 = 64;
/// Callers whose returns run behind the measured acquires.
const BEHIND: u32 = 4;
/// Ready databases with returns behind them, and the pause after each acquire, in which the pool refills.
const READY_BEFORE_RETURNS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);
/// Timed requests for the status.
const STATUS: usize = 30;
/// Passes of the reconciler, and the pause after each, in which it ends.
const RECONCILES: u32 = 30;
const RECONCILE_PAUSE: Duration = Duration::from_millis(60);
/// Timed wake-ups of waiters.
const WAKE_UPS: usize = 40;

/// Acquires of `apis` in turns, each of which has this many databases ready: all samples of each, and the median of each batch.
pub(crate) async fn acquires(apis: &[(&Api, u32)], effort: Effort) -> Result<Vec<(Samples, Samples)>, BenchError> {
    let mut measured = vec![(Samples::default(), Samples::default()); apis.len()];
    for _ in 0..effort.batches {
        for ((api, ready), (all, medians)) in apis.iter().zip(&mut measured) {
            let size = Size { warm: *ready, max: *ready, spares: 0 };
            api.wait_until_idle(size).await?;
            let mut batch = Samples::default();
            let leases = timed_acquires(api, FEW - 1, &mut batch).await?;
            all.extend(&batch);
            medians.add(batch.percentile(50));
            api.check_and_release(&leases).await?;
            // Otherwise the clones would run beside the next batch.
            api.wait_until_idle(size).await?;
        }
    }
    Ok(measured)
}

/// Milliseconds of each of `count` acquires that start together, with as many databases ready.
pub(crate) async fn burst(api: &Api, count: u32, effort: Effort) -> Result<Samples, BenchError> {
    let size = Size { warm: count, max: count, spares: 0 };
    api.resize(size).await?;
    let mut samples = Samples::default();
    for _ in 0..effort.batches {
        api.wait_until_idle(size).await?;
        let barrier = Arc::new(Barrier::new(count as usize));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (api, barrier) = (api.clone(), barrier.clone());
            tasks.spawn(async move {
                barrier.wait().await;
                let started = Instant::now();
                let lease = api.acquire(None).await?;
                Ok::<_, BenchError>((milliseconds(started), lease))
            });
        }
        let mut leases = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            let (took, lease) = joined(ended)??;
            samples.add(took);
            leases.push(lease);
        }
        api.check_and_release(&leases).await?;
    }
    Ok(samples)
}

/// Milliseconds of an acquire of one caller while four others return databases of another pool without a pause.
pub(crate) async fn before_returns(api: &Api, effort: Effort) -> Result<Samples, BenchError> {
    let mut behind = api.with_pool(POOL_BEHIND);
    template::build(&mut behind, template::LARGE).await?;
    behind.resize(Size { warm: BEHIND, max: BEHIND * 2, spares: BEHIND }).await?;
    let size = Size { warm: READY_BEFORE_RETURNS, max: READY_BEFORE_RETURNS, spares: 0 };
    api.resize(size).await?;
    api.wait_until_idle(size).await?;
    let mut load = JoinSet::new();
    for _ in 0..BEHIND {
        let behind = behind.clone();
        load.spawn(async move {
            loop {
                let lease = behind.acquire(None).await?;
                behind.release(&lease).await?;
            }
        });
    }
    let mut samples = Samples::default();
    for _ in 0..effort.acquires / 2 {
        let leases = timed_acquires(api, 1, &mut samples).await?;
        api.check_and_release(&leases).await?;
        tokio::time::sleep(PAUSE).await;
        if let Some(ended) = load.try_join_next() {
            let failure: Result<(), BenchError> = joined(ended)?;
            failure?;
        }
    }
    load.shutdown().await;
    behind.delete().await?;
    Ok(samples)
}

/// Milliseconds of a request for the status.
pub(crate) async fn status(api: &Api) -> Result<Samples, BenchError> {
    let mut samples = Samples::default();
    for _ in 0..STATUS {
        let started = Instant::now();
        api.call(Method::GET, "/v1/status", None).await?;
        samples.add(milliseconds(started));
    }
    Ok(samples)
}

/// Milliseconds of processor time of daemon and server for one pass of the reconciler. A PUT wakes it that changes nothing: a pool that shrinks
/// and grows has a database dropped and cloned. What a GET of the pool takes, which has the same answer, is subtracted. `None` where there is
/// no `/proc`.
pub(crate) async fn reconcile(api: &Api, size: Size, meter: &Meter) -> Result<Option<f64>, BenchError> {
    let (mut passes, mut before) = (Vec::new(), meter.read());
    for wakes in [true, false] {
        for _ in 0..RECONCILES {
            if wakes {
                api.resize(size).await?;
            } else {
                api.read().await?;
            }
            tokio::time::sleep(RECONCILE_PAUSE).await;
        }
        passes.extend(meter.since(before).map(|used| (used.daemon + used.server).as_secs_f64()));
        before = meter.read();
    }
    Ok(match passes[..] {
        [waking, reading] => Some((waking - reading) * 1000.0 / f64::from(RECONCILES)),
        _ => None,
    })
}

/// Percent of a core that the daemon and its server use while nothing happens; `None` where there is no `/proc`.
pub(crate) async fn at_rest(meter: &Meter, rest: Duration) -> Option<(f64, f64)> {
    let before = meter.read();
    tokio::time::sleep(rest).await;
    let used = meter.since(before)?;
    let percent = |time: Duration| 100.0 * time.as_secs_f64() / rest.as_secs_f64();
    Some((percent(used.daemon), percent(used.server)))
}

/// Many callers wait for one database.
#[derive(Debug)]
pub(crate) struct Waiters {
    /// Milliseconds from the request to release until the next waiter has the database.
    pub(crate) wake_ups: Samples,
    pub(crate) resident_bytes: Option<u64>,
}

/// Lets `count` callers wait for one slot, and returns its database again and again. The callers that get it wait in a known order, which the
/// grants must have.
pub(crate) async fn wait(api: &Api, count: usize, meter: &Meter) -> Result<Waiters, BenchError> {
    let mut api = api.with_pool(POOL_OF_ONE);
    template::build(&mut api, template::LARGE).await?;
    let api = &api;
    api.resize(Size { warm: 1, max: 1, spares: 4 }).await?;
    let mut lease = api.acquire(None).await?;
    let (granted, mut grants) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (caller, granted) = (api.clone(), granted.clone());
        tasks.spawn(async move {
            let lease = caller.acquire(None).await;
            // The receiver lives until the measurement ends.
            let _ended = granted.send((number, lease.map(|lease| (Instant::now(), lease))));
        });
        if number < WAKE_UPS {
            api.wait_for_waiters(number + 1).await?;
        }
    }
    api.wait_for_waiters(count).await?;
    let resident_bytes = meter.resident_bytes();
    let mut wake_ups = Samples::default();
    for expected in 0..WAKE_UPS.min(count) {
        api.expect_clean(&lease).await?;
        let released = Instant::now();
        api.release(&lease).await?;
        let grant = grants.recv().await.ok_or_else(|| BenchError::Broken("no waiter is left".to_owned()))?;
        let (number, (granted, next)) = (grant.0, grant.1?);
        if number != expected {
            return Err(BenchError::Broken(format!("waiter {number} was granted a database before waiter {expected}")));
        }
        wake_ups.add(granted.saturating_duration_since(released).as_secs_f64() * 1000.0);
        lease = next;
    }
    // The rest hang up, which gives up their places.
    tasks.shutdown().await;
    api.delete().await?;
    Ok(Waiters { wake_ups, resident_bytes })
}

/// The result of a task, which panics only through a fault of the benchmark.
pub(crate) fn joined<T>(ended: Result<T, tokio::task::JoinError>) -> Result<T, BenchError> {
    ended.map_err(|error| BenchError::Answer(format!("to a task that ended: {error}")))
}
