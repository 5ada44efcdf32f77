//! The latencies of one caller: acquire from a warm pool, and release of a name until it is leased again.

use std::time::Instant;

use crate::plain::Session;

use crate::api::{Api, Size};
use crate::error::{BenchError, context};
use crate::results::Samples;

/// The number of timed acquires, and that of a batch. The pool is idle before each batch, so that no acquire waits for a clone.
const ACQUIRES: usize = 200;
const BATCH: u32 = 20;

/// The number of timed returns.
const RETURNS: usize = 60;

/// Milliseconds from the request to the parsed lease, over one kept-alive connection.
pub(crate) async fn acquire(api: &Api) -> Result<Samples, BenchError> {
    let size = Size { warm: BATCH, max: BATCH, spares: 0 };
    api.resize(size).await?;
    let mut samples = Samples::default();
    while samples.all().len() < ACQUIRES {
        api.wait_until_idle(size).await?;
        let mut leases = Vec::new();
        for _ in 0..BATCH {
            let started = Instant::now();
            let lease = api.acquire(None).await?;
            samples.add(milliseconds(started));
            leases.push(lease);
        }
        for lease in &leases {
            api.release(lease).await?;
        }
    }
    Ok(samples)
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

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
