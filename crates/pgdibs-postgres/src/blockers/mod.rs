//! Blockers: sessions and prepared transactions of tenants for which the daemon waits or which use up the lock table, and their end.
//!
//! The databases of a pool grant CREATE and TEMPORARY to the pool's owner role, as which its sessions act. So each of them may update
//! the `pg_database` row of any database of its pool (a `grant` that changes nothing still does), and its login may update its own
//! row in `pg_authid`; and every role locks a database or a role as an object by a setting or a grant that names it. An open transaction
//! that did holds up every rename and drop, and a breakpoint in a test may leave one open for hours.
//!
//! [`waits`] finds whom the daemon waits for, [`lock_table`] who leaves it no lock to take; both look on the connection of [`crate::watch`].

mod lock_table;
mod tenants;
mod waits;

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::address::ServerAddress;
use crate::context::PgBackend;

use crate::watch::Watch;

/// Before a first look, and between two, while fast steps run: all callers wait for those. Longer than a tenant's own `grant` takes.
pub(crate) const FAST: Duration = Duration::from_millis(30);

/// The same while a slow step runs, for which only the refill waits.
pub(crate) const SLOW: Duration = Duration::from_millis(250);

/// The same at all times: requests wait as well, and new connections, and tenants of other pools.
const ALWAYS: Duration = Duration::from_millis(500);

/// A look is a few statements; a rollback of a prepared transaction connects first.
const LOOK: Duration = Duration::from_secs(5);

/// Ends blockers until it is dropped.
///
/// It looks on one further connection, which all steps under way share, because those that run them wait.
pub(crate) async fn end(backend: &PgBackend, every: Duration) -> Infallible {
    loop {
        sleep(every).await;
        take_snapshot(backend).await;
    }
}

impl PgBackend {
    /// Ends blockers until it is dropped, whatever the daemon does meanwhile. From its beginning there is a connection to look on: once
    /// a blocker keeps new connections out, it would be too late for one.
    pub async fn end_blockers(&self) {
        loop {
            take_snapshot(self).await;
            sleep(ALWAYS).await;
        }
    }
}

/// Looks once, and ends what it finds.
pub(crate) async fn take_snapshot(backend: &PgBackend) {
    let mut watch = backend.watch.lock().await;
    let looked = timeout(LOOK, async {
        let address = &backend.connections.address;
        watch.connect(address).await?;
        if watch.look_is_due(backend.connections.facts.lock_entries).await? {
            lock_table::end_largest(backend, &mut watch).await?;
            waits::end(Some(backend), address, &mut watch).await?;
            watch.has_looked();
            if watch.is_in_the_way().await? {
                watch.disconnect();
            }
        }
        Ok::<_, sqlx::Error>(())
    });
    match looked.await {
        Ok(Ok(())) => {}
        // Another look opens another connection; the steps themselves say when the server has gone.
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot look for blockers");
            watch.disconnect();
        }
        Err(_) => watch.disconnect(),
    }
}

/// The same for a daemon that has yet to reach its catalog, and so does not know its pools.
pub(crate) async fn end_at_start(address: &ServerAddress) -> Infallible {
    let mut watch = Watch::default();
    loop {
        sleep(ALWAYS).await;
        let looked = timeout(LOOK, async {
            watch.connect(address).await?;
            waits::end(None, address, &mut watch).await
        });
        if !matches!(looked.await, Ok(Ok(()))) {
            watch.disconnect();
        }
    }
}
