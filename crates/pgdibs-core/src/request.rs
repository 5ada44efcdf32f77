//! Requests: what a caller asks of the catalog, checked before it gets there, and what it is answered.

use crate::database::DatabaseId;
use crate::lease::{Lease, LeaseId};
use crate::name::{DatabaseName, Fingerprint, PoolName};
use crate::template::{Template, TemplateId, Timestamp};

/// A wish for one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquire {
    /// The id it will have if it is granted; made by the daemon, so that a retry after a lost connection is recognised.
    pub id: LeaseId,
    /// The pool to take from.
    pub pool: PoolName,
    /// The template; `None` takes the pool's newest ready one.
    pub fingerprint: Option<Fingerprint>,
    /// The test session.
    pub run: Option<String>,
    /// The worker in it.
    pub worker: Option<String>,
    /// Which of several databases of one worker.
    pub alias: String,
    /// Free text for people.
    pub holder: String,
    /// Seconds without renewal, 1 to 3600.
    pub ttl_seconds: u64,
    /// Whether only the slot that the worker's id names will do: for tools that derive the names of their databases themselves.
    pub exact_slot: bool,
}

/// What became of a wish for leases.
#[derive(Debug, Clone, PartialEq)]
pub enum Acquired {
    /// Granted now: all of them.
    Granted(Vec<Lease>),
    /// Each key already has a live lease, which it gets back.
    Existing(Vec<Lease>),
    /// Nothing is free. The template it waits for, or `None` while no template exists and one is being built.
    Wait(Wanted),
}

/// What a waiter waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The pool.
    pub pool: PoolName,
    /// The template.
    pub template: TemplateId,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Whether it is still being built.
    pub building: bool,
}

/// A waiter's place in the queue of its template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId(pub i64);

/// What a ticket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TicketKind {
    /// Ready databases.
    Acquire,
    /// Ready databases in the slots 0 to count − 1 and no others.
    Exact,
    /// A spare, to be swapped under a live lease. Served before slots are refilled.
    Reset,
}

/// What became of "I need this template".
#[derive(Debug, Clone, PartialEq)]
pub enum TemplatePut {
    /// It exists.
    Ready(Template),
    /// The caller is the builder; its database may still have to be created.
    Yours(Template),
    /// Somebody else builds it.
    Building(Template),
}

/// The place where a builder applies its migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildPlace {
    /// The template that is being built.
    pub template: TemplateId,
    /// The database to connect to.
    pub database: DatabaseName,
    /// The builder's login.
    pub credentials: crate::lease::Credentials,
    /// When the build is lost unless the builder renews or is connected.
    pub expires_at: Timestamp,
}

/// What became of the wish for a reset.
#[derive(Debug, Clone, PartialEq)]
pub enum ResetBegun {
    /// A spare is reserved; the swap follows, and then the lease's generation is the one named here.
    Reserved {
        /// The generation after the swap.
        generation: u32,
    },
    /// The generation to leave behind is already behind.
    Already(Box<Lease>),
    /// No spare is free.
    Wait(Wanted),
}

/// What a keep promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The database that will carry the name.
    pub database: DatabaseId,
    /// The name it will have once it has left its slot.
    pub name: DatabaseName,
    /// The login that may then look into it.
    pub credentials: crate::lease::Credentials,
    /// Until when.
    pub until: Timestamp,
}

/// An announcement of what a run will need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// The test session.
    pub run: String,
    /// The pool it will take from.
    pub pool: PoolName,
    /// The template; `None` stands for the newest ready one.
    pub fingerprint: Option<Fingerprint>,
    /// Workers.
    pub workers: u32,
    /// Databases per worker.
    pub aliases: u32,
}
