//! What grows with the number of databases or waiters, if anything does: acquires, the status, the daemon at rest, wake-ups.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgdibs::Method;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::api::{Api, Lease, POOL_BEHIND, POOL_OF_ONE, Size};
use crate::error::BenchError;
use crate::latency::{check_and_release, milliseconds, timed_acquires};
use crate::processor::Meter;
use crate::results::Samples;
use crate::template;

/// Ready databases of the small pool, half of which a batch takes.
const FEW: u32 = 20;
/// Acquires at once.
const BURST: u32 = 64;
/// Batches and bursts.
const ROUNDS: usize = 5;
/// Callers whose returns run behind the measured acquires.
const BEHIND: u32 = 4;
/// Timed acquires with returns behind them, and the pause after each, in which the pool refills.
const ACQUIRES_BEFORE_RETURNS: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Timed requests for the status.
const STATUS: usize = 30;
/// How long the daemon is watched at rest.
const REST: Duration = Duration::from_secs(10);
/// Timed wake-ups of waiters.
const WAKE_UPS: usize = 40;

/// Acquires of two daemons in turns: one with few ready databases, one with many.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    pub(crate) few: Samples,
    pub(crate) many: Samples,
    /// The medians of a batch, divided.
    pub(crate) ratios: Samples,
}

/// Makes `many` ready databases at the second daemon, and acquires from both in turns.
pub(crate) async fn acquire(few: &Api, many: &Api, ready: u32) -> Result<Sizes, BenchError> {
    let few_size = Size { warm: FEW, max: FEW, spares: 0 };
    let many_size = Size { warm: ready, max: ready, spares: 0 };
    few.resize(few_size).await?;
    many.resize(many_size).await?;
    let mut sizes = Sizes::default();
    for _ in 0..ROUNDS {
        few.wait_until_idle(few_size).await?;
        many.wait_until_idle(many_size).await?;
        let (mut of_few, mut of_many, mut leases) = (Samples::default(), Samples::default(), (Vec::new(), Vec::new()));
        for _ in 0..FEW / 2 {
            leases.0.extend(timed_acquires(few, 1, &mut of_few).await?);
            leases.1.extend(timed_acquires(many, 1, &mut of_many).await?);
        }
        check_and_release(few, &leases.0).await?;
        check_and_release(many, &leases.1).await?;
        sizes.ratios.add(of_many.percentile(50) / of_few.percentile(50));
        sizes.few.extend(&of_few);
        sizes.many.extend(&of_many);
    }
    Ok(sizes)
}

/// Milliseconds of each of 64 acquires that start together, with as many databases ready.
pub(crate) async fn burst(api: &Api) -> Result<Samples, BenchError> {
    let size = Size { warm: BURST, max: BURST, spares: 0 };
    api.resize(size).await?;
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        api.wait_until_idle(size).await?;
        let barrier = Arc::new(Barrier::new(BURST as usize));
        let mut tasks = JoinSet::new();
        for _ in 0..BURST {
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
            let (took, lease) = ended.map_err(|error| BenchError::Broken(error.to_string()))??;
            samples.add(took);
            leases.push(lease);
        }
        check_and_release(api, &leases).await?;
    }
    Ok(samples)
}

/// Milliseconds of an acquire of one caller while four others return databases of another pool without a pause.
pub(crate) async fn before_returns(api: &Api) -> Result<Samples, BenchError> {
    let behind = api.with_pool(POOL_BEHIND);
    template::build(&behind).await?;
    behind.resize(Size { warm: BEHIND, max: BEHIND * 2, spares: BEHIND }).await?;
    let size = Size { warm: FEW, max: FEW, spares: 0 };
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
    for _ in 0..ACQUIRES_BEFORE_RETURNS {
        let leases = timed_acquires(api, 1, &mut samples).await?;
        check_and_release(api, &leases).await?;
        tokio::time::sleep(PAUSE).await;
        if let Some(ended) = load.try_join_next() {
            let failure: Result<(), BenchError> = ended.map_err(|error| BenchError::Broken(error.to_string()))?;
            failure?;
        }
    }
    load.shutdown().await;
    behind.call(Method::DELETE, &format!("{}?force=true", behind.path()), None).await?;
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

/// Percent of a core that the daemon and its server use while nothing happens; `None` where there is no `/proc`.
pub(crate) async fn at_rest(meter: &Meter) -> Option<(f64, f64)> {
    let before = meter.read();
    tokio::time::sleep(REST).await;
    let used = meter.since(before)?;
    let percent = |time: Duration| 100.0 * time.as_secs_f64() / REST.as_secs_f64();
    Some((percent(used.daemon), percent(used.server)))
}

/// Many callers wait for one database.
#[derive(Debug)]
pub(crate) struct Waiters {
    /// Milliseconds from the answer to a release until the next waiter has the database.
    pub(crate) wake_ups: Samples,
    pub(crate) resident_bytes: Option<u64>,
}

/// Lets `count` callers wait for one slot, and returns its database again and again.
pub(crate) async fn wait(
    api: &Api,
    count: usize,
    resident_bytes: impl Fn() -> Option<u64>,
) -> Result<Waiters, BenchError> {
    let api = &api.with_pool(POOL_OF_ONE);
    template::build(api).await?;
    api.resize(Size { warm: 1, max: 1, spares: 4 }).await?;
    let mut lease = api.acquire(None).await?;
    let (granted, mut grants) = tokio::sync::mpsc::unbounded_channel::<Result<(Instant, Lease), BenchError>>();
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (api, granted) = (api.clone(), granted.clone());
        tasks.spawn(async move {
            let lease = api.acquire(None).await;
            // The receiver lives until the measurement ends.
            let _ended = granted.send(lease.map(|lease| (Instant::now(), lease)));
        });
    }
    api.wait_for_waiters(count).await?;
    let resident_bytes = resident_bytes();
    let mut wake_ups = Samples::default();
    for _ in 0..WAKE_UPS {
        check_and_release(api, &[lease]).await?;
        let released = Instant::now();
        let grant = grants.recv().await.ok_or_else(|| BenchError::Broken("no waiter is left".to_owned()))?;
        let (at, next) = grant?;
        // The grant may come before the release is answered.
        wake_ups.add(at.saturating_duration_since(released).as_secs_f64() * 1000.0);
        lease = next;
    }
    // The rest hang up, which gives up their places.
    tasks.shutdown().await;
    api.call(Method::DELETE, &format!("{}?force=true", api.path()), None).await?;
    Ok(Waiters { wake_ups, resident_bytes })
}
