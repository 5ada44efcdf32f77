//! The waiting room: how many callers may wait in this daemon at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places to wait. A waiter occupies a connection, and whoever holds a lease needs one to renew and to give back: so waiters may not
/// take all there are. Who finds no place is told at once to ask again.
#[derive(Debug, Clone)]
pub struct WaiterLimit {
    places: Arc<Semaphore>,
    size: usize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct WaiterPermit(#[expect(dead_code, reason = "its end is what counts")] OwnedSemaphorePermit);

impl WaiterLimit {
    /// A room for so many.
    #[must_use]
    pub fn of(size: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(size)), size }
    }

    /// A place; `None` when all are taken.
    #[must_use]
    pub fn enter(&self) -> Option<WaiterPermit> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(WaiterPermit)
    }

    /// The end of a sentence for who found no place.
    #[must_use]
    pub fn is_full(&self) -> String {
        format!("{} callers wait at this daemon already, which is the most it lets wait; ask again", self.size)
    }
}
