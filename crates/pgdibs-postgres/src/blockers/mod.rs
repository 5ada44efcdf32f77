//! Blockers: sessions and prepared transactions of tenants for which the daemon waits or which fill the lock table. The daemon ends them.
//!
//! The databases of a pool grant CREATE and TEMPORARY to the pool's owner role, as which its sessions act. So each of them may update
//! the `pg_database` row of any database of its pool (a `grant` that changes nothing still does), and its login may update its own
//! row in `pg_authid`; and every role locks a database or a role as an object by a setting or a grant that names it. An open transaction
//! that did holds up every rename and drop, and a breakpoint in a test may leave one open for hours.
//!
//! [`waits`] finds the sessions for which the daemon waits, [`lock_table`] those that leave it no lock to take; both use the connection of
//! [`crate::watch`].

mod lock_table;
mod tenants;
mod waits;

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::address::ServerAddress;
use crate::context::PgBackend;
use crate::watch::Watch;

/// Between two checks while fast steps run, for which all callers wait. Longer than a tenant's own `grant` takes.
pub(crate) const FAST: Duration = Duration::from_millis(30);

/// The same while a slow step runs, for which only the refill waits.
pub(crate) const SLOW: Duration = Duration::from_millis(250);

/// The same at all times: requests wait as well, and new connections, and tenants of other pools.
const ALWAYS: Duration = Duration::from_millis(500);

/// The same while no tenant can log in: only one that its lease has outlived, by a role that it made, can be a blocker.
const AT_REST: Duration = Duration::from_millis(1500);

/// A check is a few statements; the rollback of a prepared transaction connects first.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends blockers until the caller drops the future. All callers share one connection.
pub(crate) async fn end(backend: &PgBackend, every: Duration) -> Infallible {
    loop {
        sleep(every).await;
        check(backend).await;
    }
}

impl PgBackend {
    /// Ends blockers until the caller drops the future, also while no step runs. It connects at once, since a blocker may keep new
    /// connections out later.
    pub async fn end_blockers(&self) {
        let mut has_tenants = self.has_tenants.subscribe();
        loop {
            check(self).await;
            sleep(ALWAYS).await;
            let more = AT_REST.saturating_sub(ALWAYS);
            // The sender lives as long as the backend.
            let _passed = timeout(more, has_tenants.wait_for(|has_tenants| *has_tenants)).await;
        }
    }
}

/// Ends the present blockers.
pub(crate) async fn check(backend: &PgBackend) {
    let mut watch = backend.watch.lock().await;
    let checked = timeout(CHECK_TIMEOUT, async {
        let address = &backend.connections.address;
        watch.connect(address).await?;
        if watch.check_is_due(backend.facts().lock_entries).await? {
            lock_table::end_largest(backend, &mut watch).await?;
            waits::end(Some(backend), address, &mut watch).await?;
            watch.keep_locks();
            if watch.is_in_the_way().await? {
                watch.disconnect();
            }
        }
        Ok::<_, sqlx::Error>(())
    });
    match checked.await {
        Ok(Ok(())) => {}
        // The next check connects again; the steps themselves report a server that is unavailable.
        Ok(Err(error)) => {
            tracing::debug!("cannot check for blockers: {error}");
            watch.disconnect();
        }
        Err(_) => watch.disconnect(),
    }
}

/// The same for a daemon that has not reached its catalog yet, and so does not know its pools.
pub(crate) async fn end_at_start(address: &ServerAddress) -> Infallible {
    let mut watch = Watch::before_catalog();
    loop {
        sleep(ALWAYS).await;
        let checked = timeout(CHECK_TIMEOUT, async {
            watch.connect(address).await?;
            waits::end(None, address, &mut watch).await
        });
        if !matches!(checked.await, Ok(Ok(()))) {
            watch.disconnect();
        }
    }
}
