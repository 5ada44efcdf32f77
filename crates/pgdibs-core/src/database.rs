//! Databases: single-use clones of a template, and their states.

use crate::id::LeaseId;
use crate::name::{DatabaseName, PoolName};
use crate::template::{TemplateId, Timestamp};
use crate::text_enum::text_enum;

pub use crate::id::DatabaseId;

/// The state of a database: `creating → spare → ready → leased → retiring → (deleted)`, with `kept` beside `retiring`, and
/// `blocked`. No transition leads back to `ready`, so pgdibs never leases a used database again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatabaseState {
    /// The row exists; `create database` may or may not have run. The reconciler moves it on.
    Creating,
    /// Cloned, closed to connections, outside every slot. The reconciler moves it on (fill, return, reset, surplus).
    Spare,
    /// In a slot, open to its own login, without a session so far. An acquire or the reconciler (surplus) moves it on.
    Ready,
    /// In a slot, and one lease has received its login. The end or the reset of that lease moves it on.
    Leased,
    /// Used. The swap takes it out of its slot, and the reconciler drops it later.
    Retiring,
    /// Used, and kept for inspection until `keep_until`. The reconciler or `DELETE` moves it on.
    Kept,
    /// A step on it failed three times. The API shows the reason; the reconciler retries once a minute. Its slot number stays unused.
    Blocked,
}

text_enum!(DatabaseState {
    Creating = "creating",
    Spare = "spare",
    Ready = "ready",
    Leased = "leased",
    Retiring = "retiring",
    Kept = "kept",
    Blocked = "blocked",
});

/// A database as recorded in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its number.
    pub id: DatabaseId,
    /// The pool it belongs to.
    pub pool: PoolName,
    /// The template it is a clone of.
    pub template: TemplateId,
    /// Its state.
    pub state: DatabaseState,
    /// Its current name.
    pub name: DatabaseName,
    /// Its identity on the server; `None` until the catalog records that `create database` has run.
    pub oid: Option<u32>,
    /// The slot whose name it carries.
    pub slot: Option<u32>,
    /// Until when pgdibs keeps it after its lease; a keep request sets it.
    pub keep_until: Option<Timestamp>,
    /// Whether `keep_until` has passed by the server's clock.
    pub keep_expired: bool,
    /// The lease that it is kept for.
    pub keep_lease: Option<LeaseId>,
    /// Why it is kept, retiring or blocked.
    pub reason: Option<String>,
    /// Failed attempts at the current step.
    pub attempts: u32,
    /// Whether the current step may run now (false until `retry_at`).
    pub due: bool,
    /// The error of the last attempt.
    pub last_error: Option<String>,
    /// When its row was inserted.
    pub created_at: Timestamp,
    /// When it entered its slot.
    pub ready_at: Option<Timestamp>,
}

impl Database {
    /// Whether the catalog records that the database was created on the server.
    #[must_use]
    pub fn is_cloned(&self) -> bool {
        self.oid.is_some()
    }
}
