//! The latencies of one caller: acquire from a warm pool, release of a name until it is leased again, reset.

use std::time::{Duration, Instant};

use pgdibs::Method;
use serde_json::json;

use crate::api::{Api, Lease, Size};
use crate::error::{BenchError, context};
use crate::plain::Session;
use crate::results::Samples;

/// The number of timed acquires, and that of a batch. The pool is idle before each batch, so that no acquire waits for a clone.
const ACQUIRES: usize = 200;
const BATCH: u32 = 20;

/// The number of timed returns and of timed resets.
const RETURNS: usize = 60;

/// Milliseconds from the request to the parsed lease, over one kept-alive connection.
pub(crate) async fn acquire(api: &Api) -> Result<Samples, BenchError> {
    let size = Size { warm: BATCH, max: BATCH, spares: 0 };
    api.resize(size).await?;
    let mut samples = Samples::default();
    while samples.all().len() < ACQUIRES {
        api.wait_until_idle(size).await?;
        let leases = timed_acquires(api, BATCH, &mut samples).await?;
        check_and_release(api, &leases).await?;
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

/// Compares each database with the template, and returns it.
pub(crate) async fn check_and_release(api: &Api, leases: &[Lease]) -> Result<(), BenchError> {
    for lease in leases {
        let mut session = context("a lease's login", Session::connect(&lease.url).await)?;
        let (name, is_clean) = context("a query", session.inspect().await)?;
        context("a disconnect", session.close().await)?;
        expect_clean(lease, &name, is_clean)?;
        api.release(lease).await?;
    }
    Ok(())
}

/// The error for a lease whose URL leads to another database or to one that is not as the template.
pub(crate) fn expect_clean(lease: &Lease, name: &str, is_clean: bool) -> Result<(), BenchError> {
    if is_clean && name == lease.database {
        return Ok(());
    }
    Err(BenchError::Broken(format!("the URL of {} leads to {name}, as the template: {is_clean}", lease.database)))
}

/// The duration of a return and of its parts, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    pub(crate) total: Samples,
    pub(crate) released: Samples,
    pub(crate) acquired: Samples,
    pub(crate) connected: Samples,
}

/// Measures a return: from the request to release, with a connected session and its open transaction, until the next lease has the same
/// name. Each time it then connects and checks that the database is clean; that duration depends on driver and server, and is reported
/// separately. The pool has one slot, so the next lease gets the same name.
pub(crate) async fn release(api: &Api) -> Result<Returns, BenchError> {
    let size = Size { warm: 1, max: 1, spares: 2 };
    api.resize(size).await?;
    let mut returns = Returns::default();
    let mut lease = api.acquire(None).await?;
    for _ in 0..RETURNS {
        let mut dirty = context("a lease's login", Session::connect(&lease.url).await)?;
        context("a write", dirty.make_dirty().await)?;
        // The only slot is leased, so none is ready.
        api.wait_until_idle(Size { warm: 0, ..size }).await?;

        let started = Instant::now();
        api.release(&lease).await?;
        let released = milliseconds(started);
        let next = api.acquire(None).await?;
        let acquired = milliseconds(started);
        let mut clean = context("a lease's login", Session::connect(&next.url).await)?;
        let (name, is_clean) = context("a query", clean.inspect().await)?;
        let connected = milliseconds(started);

        if name != lease.database || !is_clean || next.user == lease.user || !dirty.has_ended().await {
            return Err(BenchError::Broken(format!(
                "after the release of {}, {name} was leased (clean: {is_clean}) with login {} after {}",
                lease.database, next.user, lease.user
            )));
        }
        returns.released.add(released);
        returns.acquired.add(acquired - released);
        returns.connected.add(connected - acquired);
        returns.total.add(acquired);
        context("a disconnect", clean.close().await)?;
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

/// Measures resets; the two ways take turns of `side` each.
pub(crate) async fn reset(api: &Api, side: Duration, rounds: u32) -> Result<Resets, BenchError> {
    let size = Size { warm: 0, max: 2, spares: 2 };
    api.resize(size).await?;
    let (lease, truncated) = (api.acquire(None).await?, api.acquire(None).await?);
    let mut resets = Resets::default();
    for _ in 0..RETURNS {
        let mut dirty = context("a lease's login", Session::connect(&lease.url).await)?;
        context("a write", dirty.make_dirty().await)?;
        api.wait_until_idle(size).await?;
        let started = Instant::now();
        reset_once(api, &lease).await?;
        resets.latency.add(milliseconds(started));
    }
    let mut session = context("a lease's login", Session::connect(&truncated.url).await)?;
    context("the reference data", session.save_reference_data().await)?;
    for _ in 0..rounds {
        api.wait_until_idle(size).await?;
        let (started, mut count) = (Instant::now(), 0.0);
        while started.elapsed() < side {
            context("a write", session.write().await)?;
            context("a truncate", session.truncate_and_reload().await)?;
            count += 1.0;
        }
        let truncate_rate = count / started.elapsed().as_secs_f64();
        let (started, mut count) = (Instant::now(), 0.0);
        while started.elapsed() < side {
            reset_once(api, &lease).await?;
            let mut fresh = context("a lease's login", Session::connect(&lease.url).await)?;
            let is_clean = context("a write", fresh.write().await)?;
            expect_clean(&lease, &lease.database, is_clean)?;
            count += 1.0;
        }
        let rate = count / started.elapsed().as_secs_f64();
        resets.rates.add(rate);
        resets.truncate_rates.add(truncate_rate);
        resets.ratios.add(rate / truncate_rate);
    }
    api.release(&lease).await?;
    api.release(&truncated).await?;
    Ok(resets)
}

async fn reset_once(api: &Api, lease: &Lease) -> Result<(), BenchError> {
    let path = format!("/v1/leases/{}/reset", lease.id);
    api.call(Method::POST, &path, Some(&json!({"wait_seconds": 30}))).await.map(|_| ())
}

pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
