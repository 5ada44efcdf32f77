//! Requests to the catalog, already validated, and their results.

use crate::database::DatabaseId;
use crate::inputs::Inputs;
use crate::lease::{Credentials, Lease, LeaseId};
use crate::name::{DatabaseName, Fingerprint, PoolName};
use crate::template::{Template, TemplateId, Timestamp};

/// A request for one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquire {
    /// The id of the lease if it is granted. The daemon makes it, so that it recognises its own retry after a lost connection.
    pub id: LeaseId,
    /// The pool.
    pub pool: PoolName,
    /// The template; `None` means the one that [`choose_template`](crate::backend::Backend::choose_template) gives at that moment. A caller
    /// that waits names that one from then on, since it does not follow a later `PUT`.
    pub fingerprint: Option<Fingerprint>,
    /// Whether the caller named it. If not, a live lease of another template under the same key is no conflict.
    pub fingerprint_named: bool,
    /// The test session.
    pub run: Option<String>,
    /// The worker in that session.
    pub worker: Option<String>,
    /// Tells the databases of one worker apart.
    pub alias: String,
    /// A label of the holder, for display.
    pub holder: String,
    /// Seconds the lease lasts without a renewal, 1 to 3600.
    pub ttl_seconds: u64,
    /// Whether only the slot named by the worker's id is acceptable, for tools that derive database names themselves.
    pub exact_slot: bool,
}

/// The outcome of an acquire.
#[derive(Debug, Clone, PartialEq)]
pub enum Acquired {
    /// New leases, one for each request.
    Granted(Vec<Lease>),
    /// Each key already has a live lease: these.
    Existing(Vec<Lease>),
    /// No database is free; wait for this template.
    Wait(TargetTemplate),
}

/// The template that a request waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTemplate {
    /// The pool.
    pub pool: PoolName,
    /// Its number.
    pub template: TemplateId,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Whether it is still being built.
    pub building: bool,
}

/// A waiting request's position in the queue of its template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId(pub i64);

/// Who waits with a ticket, for display.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TicketHolder {
    /// The test session.
    pub run: Option<String>,
    /// The worker in that session; `None` for a batch of several.
    pub worker: Option<String>,
    /// A label of the holder.
    pub holder: String,
}

/// What a ticket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TicketKind {
    /// Ready databases.
    Acquire,
    /// Ready databases in exactly the slots 0 to count − 1.
    Exact,
    /// A spare for the reset of a live lease. The planner serves it before it refills slots.
    Reset,
}

/// The outcome of a `PUT` of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplatePut {
    /// The template is ready.
    Ready(Template),
    /// The caller is the builder; the reconciler may not have created the database yet.
    Yours(Template),
    /// Another caller is the builder.
    Building(Template),
}

/// The database to which a builder applies its migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildPlace {
    /// The template that is being built.
    pub template: TemplateId,
    /// Its name.
    pub database: DatabaseName,
    /// The builder's login.
    pub credentials: Credentials,
    /// When the build expires unless the builder renews or is connected.
    pub expires_at: Timestamp,
}

/// The outcome of a reset request.
#[derive(Debug, Clone, PartialEq)]
pub enum ResetBegun {
    /// A spare is reserved; the swap follows and raises the lease's generation to this one.
    Reserved {
        /// The generation after the swap.
        generation: u32,
    },
    /// The lease is already past the generation that the caller wants to replace.
    Already(Box<Lease>),
    /// No spare is free.
    Wait(TargetTemplate),
}

/// The outcome of a keep request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The database.
    pub database: DatabaseId,
    /// Its name after it has left its slot.
    pub name: DatabaseName,
    /// The login that has access to it.
    pub credentials: Credentials,
    /// Until when pgdibs keeps it.
    pub until: Timestamp,
}

/// The announced need of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// The test session.
    pub run: String,
    /// The pool.
    pub pool: PoolName,
    /// The template; `None` means the pool's current one.
    pub fingerprint: Option<Fingerprint>,
    /// The number of workers.
    pub workers: u32,
    /// The number of databases per worker.
    pub aliases: u32,
}

/// What a run says about itself at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// The test session.
    pub run: String,
    /// A pool that lists the report, besides those that the run announced or leased from.
    pub pool: Option<PoolName>,
    /// A label of the run, for display.
    pub holder: String,
    /// Times and workers, as a JSON object: only the HTTP layer reads it.
    pub figures: String,
    /// The inputs of the fingerprints of its templates, for those that have none yet.
    pub inputs: Inputs,
}

/// A report as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedRun {
    /// The test session.
    pub run: String,
    /// The pool.
    pub pool: PoolName,
    /// A label of the run, for display.
    pub holder: String,
    /// Times and workers, as in [`RunReport`].
    pub figures: String,
    /// When the run reported.
    pub reported_at: Timestamp,
}
