//! The begin and the end of an outage, and the bus on which the reconciler publishes them.

use std::sync::Arc;

use pgdibs_core::error::Error;
use pgdibs_core::event::{Event, EventKind};
use tokio::time::Instant;

use super::Reconciler;
use crate::events::Events;

impl<B> Reconciler<B> {
    /// The same, which publishes what it changes and finds on this bus.
    #[must_use]
    pub fn with_events(self, events: Arc<Events>) -> Self {
        Self { events, ..self }
    }

    /// Logs an outage once; every later failure belongs to it.
    pub(super) fn server_is_unreachable(&mut self, error: &Error) {
        if self.unreachable_since.is_none() {
            self.unreachable_since = Some(Instant::now());
            let why = if let Error::ServerUnavailable(why) = error { why.clone() } else { error.to_string() };
            self.events.publish(Event::new(EventKind::ServerLost).because(&why));
        }
        // No renewal could be written.
        self.expiry.restart();
        self.report.lock().unreachable = Some(error.to_string());
        self.wait_queue.set_outage(matches!(error, Error::ServerUnavailable(_)).then(|| error.clone()));
    }

    /// Publishes the end of an outage.
    pub(super) fn server_answers(&mut self) {
        if let Some(since) = self.unreachable_since.take() {
            self.events.publish(Event::new(EventKind::ServerBack).taking(since.elapsed()));
        }
    }
}
