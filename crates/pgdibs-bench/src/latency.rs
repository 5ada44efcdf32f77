//! Latencies one caller sees: acquiring from a warm pool, and a returned name being clean and connectable again.

use std::time::Instant;

use crate::plain::Session;

use crate::api::{Api, Size};
use crate::error::{BenchError, while_doing};
use crate::report::Samples;

/// Acquires that are timed, and how many in a row. The pool comes to rest in between, so that none waits for a clone.
const ACQUIRES: usize = 200;
const IN_A_ROW: u32 = 20;

/// Returns that are timed.
const RETURNS: usize = 60;

/// Milliseconds from sending the request to having read the lease, over one kept-alive connection.
pub(crate) async fn acquire(api: &Api) -> Result<Samples, BenchError> {
    let size = Size { warm: IN_A_ROW, max: IN_A_ROW, spares: 0 };
    api.resize(size).await?;
    let mut samples = Samples::default();
    while samples.all().len() < ACQUIRES {
        api.rest(size).await?;
        let mut leases = Vec::new();
        for _ in 0..IN_A_ROW {
            let began = Instant::now();
            let lease = api.acquire(None).await?;
            samples.add(milliseconds(began));
            leases.push(lease);
        }
        for lease in &leases {
            api.release(lease).await?;
        }
    }
    Ok(samples)
}

/// What a return takes, in milliseconds, and its parts.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    pub(crate) total: Samples,
    pub(crate) released: Samples,
    pub(crate) acquired: Samples,
    pub(crate) connected: Samples,
}

/// From sending the release, while a session with an open transaction is connected, until the next holder has the URL of the same
/// name. That it can be connected to and is clean is then seen, each time; how long that takes is up to driver and server, whatever
/// handed the database out, and is a figure of its own. The pool has one slot, so the next lease can only have the same name.
pub(crate) async fn give_back(api: &Api) -> Result<Returns, BenchError> {
    let size = Size { warm: 1, max: 1, spares: 2 };
    api.resize(size).await?;
    let mut returns = Returns::default();
    let mut lease = api.acquire(None).await?;
    for _ in 0..RETURNS {
        let mut dirty = while_doing("a lease's login", Session::connect(&lease.url).await)?;
        while_doing("a write", dirty.make_dirty().await)?;
        // One slot is leased, so none is ready.
        api.rest(Size { warm: 0, ..size }).await?;

        let began = Instant::now();
        api.release(&lease).await?;
        let released = milliseconds(began);
        let next = api.acquire(None).await?;
        let acquired = milliseconds(began);
        let mut clean = while_doing("a lease's login", Session::connect(&next.url).await)?;
        let (name, is_clean) = while_doing("a look", clean.look().await)?;
        let connected = milliseconds(began);

        if name != lease.database || !is_clean || next.user == lease.user || !dirty.has_ended().await {
            return Err(BenchError::Broken(format!(
                "after the return of {}, {name} was handed out, clean: {is_clean}, to login {} after {}",
                lease.database, next.user, lease.user
            )));
        }
        returns.released.add(released);
        returns.acquired.add(acquired - released);
        returns.connected.add(connected - acquired);
        returns.total.add(acquired);
        while_doing("a goodbye", clean.close().await)?;
        lease = next;
    }
    api.release(&lease).await?;
    Ok(returns)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
