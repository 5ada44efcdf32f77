//! The end of an outage, and the bus on which the reconciler publishes it.

use std::sync::Arc;

use pgdibs_core::event::{Event, EventKind};

use super::Reconciler;
use crate::events::Events;

impl<B> Reconciler<B> {
    /// The same, which publishes what it changes and finds on this bus.
    #[must_use]
    pub fn with_events(self, events: Arc<Events>) -> Self {
        Self { events, ..self }
    }

    /// Publishes the end of an outage.
    pub(super) fn server_answers(&mut self) {
        if let Some(since) = self.unreachable_since.take() {
            self.events.publish(Event::new(EventKind::ServerBack).taking(since.elapsed()));
        }
    }
}
