//! The ledger: what the callers of a fault test did, and what they have to complain of.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::until;

/// What must never happen, whatever else does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// A database was handed out that did not equal the template.
    Dirty(String),
    /// A live lease lost its database or its login.
    Lost(String),
    /// An answer that the contract does not have, or none in time.
    Answer(String),
}

/// Things that callers do, for the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    Granted,
    Reset,
    Kept,
    Released,
    Abandoned,
}

/// Shared by all callers of a test.
#[derive(Default)]
pub(crate) struct Ledger {
    deeds: Mutex<BTreeMap<Deed, usize>>,
    complaints: Mutex<Vec<Complaint>>,
    unavailable: Mutex<Vec<String>>,
    served: AtomicUsize,
    rounds: AtomicU64,
}

impl Ledger {
    pub(crate) fn note(&self, deed: Deed) {
        *self.deeds.lock().unwrap().entry(deed).or_default() += 1;
        if deed == Deed::Released {
            self.served.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the callers began before; a run that has ended is not begun again.
    pub(crate) fn next_round(&self) -> u64 {
        self.rounds.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn count(&self, deed: Deed) -> usize {
        self.deeds.lock().unwrap().get(&deed).copied().unwrap_or(0)
    }

    pub(crate) fn complain(&self, complaint: Complaint) {
        println!("{complaint:?}");
        self.complaints.lock().unwrap().push(complaint);
    }

    /// What callers were told of a server that cannot be reached, which is worth another try.
    pub(crate) fn unavailable(&self) -> Vec<String> {
        self.unavailable.lock().unwrap().clone()
    }

    pub(crate) fn note_refusal(&self, answer: &Value) {
        // While it starts, a daemon says so, and that is true.
        let starting = answer["detail"].as_str().is_some_and(|detail| detail.contains("still starting"));
        if answer["code"] == "server_unavailable" && !starting {
            self.unavailable.lock().unwrap().push(answer.to_string());
        }
    }

    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        self.complaints.lock().unwrap().clone()
    }

    /// Fails when anybody has something to complain of.
    #[track_caller]
    pub(crate) fn assert_spotless(&self) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    /// Waits until callers were served that often more; returns how long it took. Fails at the first complaint.
    #[track_caller]
    pub(crate) fn until_served(&self, more: usize) -> Duration {
        let (began, before) = (Instant::now(), self.served.load(Ordering::Relaxed));
        until("callers are served", || {
            self.assert_spotless();
            match self.served.load(Ordering::Relaxed) - before {
                served if served < more => Err(format!("{served} of {more}")),
                _ => Ok(()),
            }
        });
        began.elapsed()
    }
}
