//! The bell: whom to wake. All that memory holds about waiting; what is waited for stands in the catalog.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgdibs_core::request::TicketId;
use tokio::sync::{Notify, watch};

/// Wakes the driver when there may be work, and waiters when something may have come free.
///
/// Waking is level-triggered: whoever wakes looks at everything again, so a ring too many only costs a look.
#[derive(Debug)]
pub struct Bell {
    driver: Notify,
    changes: watch::Sender<u64>,
    waiting: Mutex<BTreeSet<TicketId>>,
}

impl Default for Bell {
    fn default() -> Self {
        Self { driver: Notify::new(), changes: watch::Sender::new(0), waiting: Mutex::default() }
    }
}

impl Bell {
    /// Tells the driver to look.
    pub fn wake_driver(&self) {
        self.driver.notify_one();
    }

    /// Resolves when the driver is to look.
    pub async fn driver_woken(&self) {
        self.driver.notified().await;
    }

    /// Tells every waiter to look.
    pub fn ring(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Somebody waits here with this ticket.
    pub fn waits(&self, ticket: TicketId) {
        self.tickets().insert(ticket);
    }

    /// Nobody waits with this ticket any more; its row may go.
    pub fn waits_no_more(&self, ticket: TicketId) {
        self.tickets().remove(&ticket);
    }

    /// The tickets with which somebody waits here.
    pub fn waiting(&self) -> Vec<TicketId> {
        self.tickets().iter().copied().collect()
    }

    fn tickets(&self) -> MutexGuard<'_, BTreeSet<TicketId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An ear for [`Bell::ring`]. Take it before the first look, or a ring in between is missed.
    pub fn listen(&self) -> Ear {
        Ear(self.changes.subscribe())
    }
}

/// Hears the bell.
#[derive(Debug)]
pub struct Ear(watch::Receiver<u64>);

impl Ear {
    /// Resolves at the next ring that was not heard yet.
    pub async fn heard(&mut self) {
        // The sender lives as long as the daemon; without it there is nothing to wait for and the caller's deadline decides.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
