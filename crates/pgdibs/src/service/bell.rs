//! The bell: whom to wake. All that memory holds about waiting; what is waited for stands in the catalog.

use tokio::sync::{Notify, watch};

/// Wakes the driver when there may be work, and waiters when something may have come free.
///
/// Waking is level-triggered: whoever wakes looks at everything again, so a ring too many only costs a look.
#[derive(Debug)]
pub struct Bell {
    driver: Notify,
    changes: watch::Sender<u64>,
}

impl Default for Bell {
    fn default() -> Self {
        Self { driver: Notify::new(), changes: watch::Sender::new(0) }
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
