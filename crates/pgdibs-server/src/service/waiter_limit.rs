//! The waiter limit: how many callers may wait in this daemon at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits to wait. A waiter occupies a connection, and holders of leases need connections to renew and to release, so waiters may not
/// take all of them. A caller without a permit is answered at once.
#[derive(Debug, Clone)]
pub struct WaiterLimit {
    permits: Arc<Semaphore>,
    size: usize,
}

/// A permit, until it is dropped.
#[derive(Debug)]
pub struct WaiterPermit(#[expect(dead_code, reason = "its end is what counts")] OwnedSemaphorePermit);

impl WaiterLimit {
    /// At most so many waiters.
    #[must_use]
    pub fn of(size: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(size)), size }
    }

    /// A permit; `None` when all are taken.
    #[must_use]
    pub fn enter(&self) -> Option<WaiterPermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok().map(WaiterPermit)
    }

    /// Permits that are taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.size - self.permits.available_permits()
    }

    /// The end of a sentence for a caller without a permit.
    #[must_use]
    pub fn why_full(&self) -> String {
        format!("{} callers wait at this daemon already, which is the most it lets wait; ask again", self.size)
    }
}
