//! The ledger: operations and contract violations that the callers of a fault test record.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::wait::until;

/// What no fault may cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A leased database differs from the template.
    Dirty(String),
    /// A live lease lost its database or its login.
    Lost(String),
    /// An answer outside the contract, or a timeout.
    Answer(String),
}

/// Operations of callers, for the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Granted,
    Reset,
    Kept,
    Released,
    Abandoned,
}

/// Shared by all callers of a test.
#[derive(Default)]
pub struct Ledger {
    operations: Mutex<BTreeMap<Operation, usize>>,
    violations: Mutex<Vec<Violation>>,
    unavailable: Mutex<Vec<String>>,
    served: AtomicUsize,
    rounds: AtomicU64,
}

impl Ledger {
    pub fn count_operation(&self, operation: Operation) {
        *self.operations.lock().unwrap().entry(operation).or_default() += 1;
        if operation == Operation::Released {
            self.served.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of earlier rounds; each round has new run ids, because an ended run stays ended.
    pub fn next_round(&self) -> u64 {
        self.rounds.fetch_add(1, Ordering::Relaxed)
    }

    pub fn count(&self, operation: Operation) -> usize {
        self.operations.lock().unwrap().get(&operation).copied().unwrap_or(0)
    }

    pub fn record_violation(&self, violation: Violation) {
        println!("{violation:?}");
        self.violations.lock().unwrap().push(violation);
    }

    /// Answers with `server_unavailable`.
    pub fn unavailable(&self) -> Vec<String> {
        self.unavailable.lock().unwrap().clone()
    }

    pub fn record_error(&self, answer: &Value) {
        // During its start a daemon reports `server_unavailable` correctly.
        let starting = answer["detail"].as_str().is_some_and(|detail| detail.contains("daemon is starting"));
        if answer["code"] == "server_unavailable" && !starting {
            self.unavailable.lock().unwrap().push(answer.to_string());
        }
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.violations.lock().unwrap().clone()
    }

    /// Fails if there is a violation.
    #[track_caller]
    pub fn assert_no_violations(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// Waits for `more` further releases and returns the duration. Fails at the first violation.
    #[track_caller]
    pub fn until_served(&self, more: usize) -> Duration {
        let (began, before) = (Instant::now(), self.served.load(Ordering::Relaxed));
        until("callers are served", || {
            self.assert_no_violations();
            match self.served.load(Ordering::Relaxed) - before {
                served if served < more => Err(format!("{served} of {more}")),
                _ => Ok(()),
            }
        });
        began.elapsed()
    }
}
