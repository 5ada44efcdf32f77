//! The bus of events: numbers what happened, keeps the last of it, and feeds the log, the metrics, the streams and the other daemons.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use parking_lot::Mutex;
use pgdibs_api::event as api;
use pgdibs_api::status::HistoryBucket;
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::lease::{End, Lease, LeaseId};
use pgdibs_core::name::PoolName;
use pgdibs_core::template::Timestamp;
use tokio::sync::watch;

use super::history::History;
use super::known::KnownLeases;
use super::log;
use crate::metrics::Metrics;

/// How many events the bus keeps: so far back can a stream be resumed.
pub const KEPT: usize = 1000;

/// The present time by the daemon's clock, for display.
pub(crate) fn now() -> Timestamp {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Why events of other daemons are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Another daemon made more than it may send.
    TooMany,
    /// The connection on which they arrive was lost.
    Disconnected,
}

impl Loss {
    /// The reason of the event `gap`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooMany => "another daemon made more events than it may send",
            Self::Disconnected => {
                "events of other daemons are missing: the connection to the server on which they arrive was lost"
            }
        }
    }
}

/// An event with its number.
#[derive(Debug)]
pub struct Record {
    number: u64,
    /// The event, or why events of other daemons are missing here: what follows may not follow from what came before.
    event: Result<(Event, api::Event), Loss>,
    /// Whether it happened at this daemon.
    is_own: bool,
    frame: OnceLock<Bytes>,
}

impl Record {
    /// The event; `None` where events of other daemons are missing.
    pub fn event(&self) -> Option<&Event> {
        self.event.as_ref().ok().map(|(event, _)| event)
    }

    /// Why events of other daemons are missing here.
    pub fn loss(&self) -> Option<Loss> {
        self.event.as_ref().err().copied()
    }

    /// The event as callers get it; `None` where events of other daemons are missing.
    pub fn response(&self) -> Option<&api::Event> {
        self.event.as_ref().ok().map(|(_, wire)| wire)
    }

    /// The event as other daemons get it; `None` if it came from one.
    pub fn to_relay(&self) -> Option<&api::Event> {
        self.response().filter(|_| self.is_own)
    }

    /// Its id at the daemon with this instance.
    pub fn id(&self, instance: i32) -> String {
        format!("{instance}-{}", self.number)
    }

    /// The event as a stream has it; made once for all streams.
    pub fn frame(&self, instance: i32) -> Bytes {
        let made = self.frame.get_or_init(|| {
            let Ok((event, wire)) = &self.event else { return Bytes::new() };
            frame(&self.id(instance), event.kind.as_str(), &serde_json::to_string(wire).unwrap_or_default())
        });
        made.clone()
    }
}

/// One server-sent event. JSON has no line breaks.
pub fn frame(id: &str, kind: &str, json: &str) -> Bytes {
    let mut text = String::with_capacity(json.len() + 64);
    let _infallible = write!(text, "id: {id}\nevent: {kind}\ndata: {json}\n\n");
    Bytes::from(text)
}

/// The bus. Publishing takes a short lock and waits for nothing; a reader that falls behind by more than [`KEPT`] events is cut off.
#[derive(Debug)]
pub struct Events {
    pub(super) instance: i32,
    pub(super) state: Mutex<State>,
    /// The number of the last event.
    pub(super) last: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) ring: VecDeque<Arc<Record>>,
    pub(super) next: u64,
    known: KnownLeases,
    history: History,
}

impl Default for Events {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Events {
    /// The bus of the daemon with this instance, which is a part of each id.
    #[must_use]
    pub fn of(instance: i32) -> Self {
        let state = State {
            ring: VecDeque::with_capacity(KEPT),
            next: 1,
            known: KnownLeases::default(),
            history: History::starting(Instant::now()),
        };
        Self { instance, state: Mutex::new(state), last: watch::Sender::new(0), metrics: Arc::default() }
    }

    /// The same, whose events these metrics count.
    #[must_use]
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// The daemon's instance.
    pub fn instance(&self) -> i32 {
        self.instance
    }

    /// Something happened at this daemon.
    pub fn publish(&self, event: Event) {
        log::write(&event);
        self.metrics.observe(&event);
        let wire = api::Event::new(&event, now(), self.instance);
        self.add(Ok((event, wire)), true);
    }

    /// Something happened at another daemon. Its log has it.
    pub fn receive(&self, wire: api::Event) {
        if let Some(event) = wire.clone().read() {
            self.add(Ok((event, wire)), false);
        }
    }

    /// Events of other daemons are missing.
    pub fn receive_loss(&self, loss: Loss) {
        self.add(Err(loss), false);
    }

    fn add(&self, event: Result<(Event, api::Event), Loss>, is_own: bool) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if let Ok((event, _)) = &event {
            state.history.add(event, now);
            state.known.observe(event, now);
        }
        if state.ring.len() >= KEPT {
            state.ring.pop_front();
        }
        let number = state.next;
        state.next += 1;
        state.ring.push_back(Arc::new(Record { number, event, is_own, frame: OnceLock::new() }));
        drop(state);
        // Two publishers may come here in either order; readers only wake up.
        self.last.send_modify(|last| *last = number.max(*last));
    }

    /// A caller got a lease.
    pub fn lease_granted(&self, lease: &Lease, waited: Duration) {
        self.publish(Event::of_lease(EventKind::LeaseGranted, lease).taking(waited));
        self.state.lock().known.set_due(lease, Instant::now());
    }

    /// A lease was renewed.
    pub fn lease_renewed(&self, lease: &Lease) {
        let late = self.state.lock().known.set_due(lease, Instant::now());
        if let Some(late) = late {
            self.publish(Event::of_lease(EventKind::LeaseRenewedLate, lease).taking(late));
        }
    }

    /// A lease ended that this daemon may know; false if it does not, and published nothing.
    pub fn known_lease_ended(&self, id: LeaseId, end: End, reason: &str) -> bool {
        let known = self.state.lock().known.take(id, EventKind::of_end(end), Instant::now());
        let found = known.is_some();
        if let Some(event) = known {
            self.publish(event.because(reason));
        }
        found
    }

    /// A lease ended.
    pub fn lease_ended(&self, lease: &Lease, end: End, reason: &str) {
        if !self.known_lease_ended(lease.id, end, reason) {
            let ended = lease.ended_at.unwrap_or_else(now);
            let held = lease.acquired_at.until(ended);
            let event = Event::of_lease(EventKind::of_end(end), lease).taking(held);
            self.publish(event.because(reason));
        }
    }

    /// An event of a lease, with what earlier events tell of it.
    pub fn of_lease(&self, kind: EventKind, id: LeaseId) -> Event {
        let known = self.state.lock().known.granted(id);
        let known = known.unwrap_or_else(|| Event { lease: Some(id), ..Event::new(kind) });
        Event { kind, seconds: None, ..known }
    }

    /// The leases of a run that this daemon knows as live.
    pub fn leases_of_run(&self, run: &str) -> Vec<LeaseId> {
        self.state.lock().known.of_run(run)
    }

    /// The pool of a run, if one of the kept events tells.
    pub fn pool_of_run(&self, run: &str) -> Option<PoolName> {
        let state = self.state.lock();
        let mut events = state.ring.iter().rev().filter_map(|record| record.event());
        events
            .find(|event| event.pool.is_some() && event.run.as_deref() == Some(run))
            .and_then(|event| event.pool.clone())
    }

    /// Whether one of the kept events is of this kind and run.
    pub fn has(&self, kind: EventKind, run: &str) -> bool {
        let state = self.state.lock();
        let mut events = state.ring.iter().filter_map(|record| record.event());
        events.any(|event| event.kind == kind && event.run.as_deref() == Some(run))
    }

    /// The last quarter of an hour, oldest first.
    pub fn history(&self) -> Vec<HistoryBucket> {
        self.state.lock().history.buckets(Instant::now())
    }

    /// The kept events, oldest first.
    pub fn kept(&self) -> Vec<Arc<Record>> {
        self.state.lock().ring.iter().cloned().collect()
    }
}
