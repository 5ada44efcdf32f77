//! The latencies of one caller: acquire from a warm pool, release of a name until it is leased again, reset.

use std::time::{Duration, Instant};

use pgdibs::Method;
use serde_json::json;

use crate::api::{Api, Lease, Size};
use crate::args::Effort;
use crate::error::{BenchError, context};
use crate::results::Samples;
use crate::session::{Session, dirty};

/// Acquires of a batch. The pool is idle before each batch, so that no acquire waits for a clone.
const BATCH: u32 = 20;

/// Milliseconds from the request to the parsed lease, over one kept-alive connection.
pub(crate) async fn acquire(api: &Api, effort: Effort) -> Result<Samples, BenchError> {
    let size = Size { warm: BATCH, max: BATCH, spares: 0 };
    api.resize(size).await?;
    let mut samples = Samples::default();
    while samples.len() < effort.acquires {
        api.wait_until_idle(size).await?;
        let leases = timed_acquires(api, BATCH, &mut samples).await?;
        api.check_and_release(&leases).await?;
    }
    Ok(samples)
}

/// Acquires `count` leases one after the other, each timed.
pub(crate) async fn timed_acquires(api: &Api, count: u32, samples: &mut Samples) -> Result<Vec<Lease>, BenchError> {
    let mut leases = Vec::new();
    for _ in 0..count {
        let started = Instant::now();
        let lease = api.acquire(None).await?;
        samples.add(milliseconds(started));
        leases.push(lease);
    }
    Ok(leases)
}

/// The duration of a return and of what follows it, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    pub(crate) total: Samples,
    pub(crate) released: Samples,
    pub(crate) connected: Samples,
}

/// Measures a return: from the request to release, with a connected session and its open transaction, until the next lease has the same
/// name. Each time it then connects and compares the database with the template; how long the connecting takes depends on driver and
/// server. The pool has one slot, so the next lease gets the same name.
pub(crate) async fn release(api: &Api, effort: Effort) -> Result<Returns, BenchError> {
    let size = Size { warm: 1, max: 1, spares: 2 };
    api.resize(size).await?;
    api.wait_until_idle(size).await?;
    let mut returns = Returns::default();
    let mut lease = api.acquire(None).await?;
    for _ in 0..effort.returns {
        let mut session = context("a lease's login", Session::connect(&lease.url).await)?;
        context("a write", session.make_dirty().await)?;
        // The only slot is leased, so none is ready.
        api.wait_until_idle(Size { warm: 0, ..size }).await?;

        let started = Instant::now();
        api.release(&lease).await?;
        returns.released.add(milliseconds(started));
        let next = api.acquire(None).await?;
        returns.total.add(milliseconds(started));
        let acquired = Instant::now();
        let clean = context("a lease's login", Session::connect(&next.url).await)?;
        returns.connected.add(milliseconds(acquired));
        context("a disconnect", clean.close().await)?;

        api.expect_clean(&next).await?;
        if next.database != lease.database || next.user == lease.user || !session.has_ended().await {
            return Err(BenchError::Broken(format!(
                "after the release of {} by {} its session lives, or {} is leased to {}",
                lease.database, lease.user, next.database, next.user
            )));
        }
        lease = next;
    }
    api.release(&lease).await?;
    Ok(returns)
}

/// Resets beside the usual way to a clean database in one session.
#[derive(Debug, Default)]
pub(crate) struct Resets {
    /// Milliseconds from the request to the answer, with a connected session and a spare at hand.
    pub(crate) latency: Samples,
    /// Resets per second of one worker that connects and writes after each, by round.
    pub(crate) rates: Samples,
    /// The same with TRUNCATE of all tables and a reload of ten of them, in one session, by round.
    pub(crate) truncate_rates: Samples,
    pub(crate) ratios: Samples,
}

/// Measures resets; the two ways take turns.
pub(crate) async fn reset(api: &Api, effort: Effort) -> Result<Resets, BenchError> {
    let size = Size { warm: 0, max: 2, spares: 2 };
    api.resize(size).await?;
    let (lease, truncated) = (api.acquire(None).await?, api.acquire(None).await?);
    let mut resets = Resets::default();
    for _ in 0..effort.returns {
        let mut session = context("a lease's login", Session::connect(&lease.url).await)?;
        context("a write", session.make_dirty().await)?;
        api.wait_until_idle(size).await?;
        let started = Instant::now();
        reset_once(api, &lease).await?;
        resets.latency.add(milliseconds(started));
        api.expect_clean(&lease).await?;
    }
    let mut session = context("a lease's login", Session::connect(&truncated.url).await)?;
    context("the reference data", session.save_reference_data().await)?;
    for _ in 0..effort.rounds {
        api.wait_until_idle(size).await?;
        let truncate_rate = rate(effort.turn, async || {
            context("a write", session.write().await)?;
            context("a truncate", session.truncate_and_reload().await)
        });
        let truncate_rate = truncate_rate.await?;
        let rate = rate(effort.turn, async || {
            reset_once(api, &lease).await?;
            let mut fresh = context("a lease's login", Session::connect(&lease.url).await)?;
            let is_clean = context("a write", fresh.write().await)?;
            if is_clean { Ok(()) } else { Err(dirty(&lease.database)) }
        });
        let rate = rate.await?;
        resets.rates.add(rate);
        resets.truncate_rates.add(truncate_rate);
        resets.ratios.add(rate / truncate_rate);
    }
    api.release(&lease).await?;
    api.release(&truncated).await?;
    Ok(resets)
}

/// How often per second `work` succeeds, one after the other.
async fn rate(turn: Duration, mut work: impl AsyncFnMut() -> Result<(), BenchError>) -> Result<f64, BenchError> {
    let (started, mut count) = (Instant::now(), 0.0);
    while started.elapsed() < turn {
        work().await?;
        count += 1.0;
    }
    Ok(count / started.elapsed().as_secs_f64())
}

async fn reset_once(api: &Api, lease: &Lease) -> Result<(), BenchError> {
    let path = format!("/v1/leases/{}/reset", lease.id);
    api.call(Method::POST, &path, Some(&json!({"wait_seconds": 30}))).await.map(|_| ())
}

pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
