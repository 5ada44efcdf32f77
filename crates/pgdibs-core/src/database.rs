//! Databases: single-use clones, and the states they go through.

use crate::name::{DatabaseName, PoolName};
use crate::template::{TemplateId, Timestamp};

/// Number of a database; its login carries the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseId(pub i64);

/// Where a database is in its life: `creating → spare → ready → leased → retiring → (gone)`, with `kept` beside
/// `retiring`, and `blocked`. There is no arrow back to `ready`, so a dirty database cannot be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatabaseState {
    /// The row exists, `create database` may or may not have run. Moved on by the reconciler.
    Creating,
    /// Cloned, closed to connections, outside every slot. Moved on by the reconciler (fill, return, reset, surplus).
    Spare,
    /// In a slot, open to its own login, never connected to. Moved on by an acquire, or by the reconciler (surplus).
    Ready,
    /// In a slot, its login revealed to one lease. Moved on by the end or the reset of that lease.
    Leased,
    /// Used up. Leaves its slot in the swap, is dropped later. Moved on by the reconciler.
    Retiring,
    /// Used up, but somebody wants to look at it until `keep_until`. Moved on by the reconciler or by `DELETE`.
    Kept,
    /// A step on it failed three times. Shown with its reason; tried again rarely. Its slot number rests.
    Blocked,
}

impl DatabaseState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 7] =
        [Self::Creating, Self::Spare, Self::Ready, Self::Leased, Self::Retiring, Self::Kept, Self::Blocked];

    /// The name used in the catalog and over HTTP.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Spare => "spare",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Retiring => "retiring",
            Self::Kept => "kept",
            Self::Blocked => "blocked",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A database as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its number.
    pub id: DatabaseId,
    /// The pool it belongs to.
    pub pool: PoolName,
    /// The template it is a clone of.
    pub template: TemplateId,
    /// Where it is in its life.
    pub state: DatabaseState,
    /// The name it has at present.
    pub name: DatabaseName,
    /// Its identity on the server; `None` until `create database` is known to have run.
    pub oid: Option<u32>,
    /// The slot whose name it carries.
    pub slot: Option<u32>,
    /// Until when it is to be kept after its lease leaves it; set by a keep.
    pub keep_until: Option<Timestamp>,
    /// Whether that time has passed, by the server's clock.
    pub keep_over: bool,
    /// Why it is kept, retires or is blocked.
    pub reason: Option<String>,
    /// Failed attempts at its present step.
    pub attempts: u32,
    /// Whether that step may be tried now (false while it waits for `retry_at`).
    pub due: bool,
    /// What the last attempt said.
    pub last_error: Option<String>,
    /// When its row was made.
    pub created_at: Timestamp,
    /// When it entered its slot.
    pub ready_at: Option<Timestamp>,
}

impl Database {
    /// Whether it was ever created on the server as far as the catalog knows.
    #[must_use]
    pub fn is_cloned(&self) -> bool {
        self.oid.is_some()
    }
}
