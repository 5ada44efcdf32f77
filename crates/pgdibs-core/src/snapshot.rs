//! The snapshot: everything the planner may look at, taken in one go. It is stale the moment it is taken, and steps check again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::database::{Database, DatabaseId};
use crate::lease::{Lease, LeaseId};
use crate::name::{Fingerprint, PoolName};
use crate::pool::{Pool, Strategy, StrategyChoice};
use crate::request::{TicketId, TicketKind};
use crate::template::{Template, TemplateId, Timestamp};

/// What the catalog wants and what the server has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Every pool.
    pub pools: Vec<Pool>,
    /// Every template, in the order of their numbers.
    pub templates: Vec<Template>,
    /// Every database, in the order of their numbers.
    pub databases: Vec<Database>,
    /// Every live lease.
    pub leases: Vec<Lease>,
    /// Waiters whose daemon lives, in the order of their tickets.
    pub tickets: Vec<Ticket>,
    /// Announced runs that have neither ended nor lapsed.
    pub runs: Vec<AnnouncedRun>,
    /// The server's databases by oid, ours and others'.
    pub server: BTreeMap<u32, ServerDatabase>,
    /// What the server and the machine allow.
    pub limits: Limits,
    /// When it was taken, by the server's clock.
    pub taken_at: Timestamp,
}

/// A waiter.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    /// Its place.
    pub id: TicketId,
    /// The pool it waits at.
    pub pool: PoolName,
    /// The template it waits for.
    pub template: TemplateId,
    /// How many databases it wants at once.
    pub count: u32,
    /// Ready databases or a spare.
    pub kind: TicketKind,
    /// How long it has waited by the server's clock, in seconds.
    pub waited_seconds: f64,
}

/// What a run said it will need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedRun {
    /// The test session.
    pub run: String,
    /// The pool.
    pub pool: PoolName,
    /// The template it named; `None` stands for the newest ready one.
    pub fingerprint: Option<Fingerprint>,
    /// Workers times aliases.
    pub wanted: u32,
    /// Live leases it already has there.
    pub held: u32,
}

/// A database as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerDatabase {
    /// Its name at present.
    pub name: String,
    /// Whether its owner is the role that marks databases of ours.
    pub ours: bool,
    /// Whether a drop of it was interrupted (`datconnlimit = -2`): only another drop helps.
    pub invalid: bool,
    /// Whether it takes connections (`datallowconn`).
    pub open: bool,
    /// Sessions connected to it at present.
    pub sessions: u32,
    /// Sessions it ever had, where the server counts them.
    pub sessions_ever: u64,
    /// Whether it is a ready database or a spare whose login is missing or may not log in.
    pub locked_out: bool,
}

/// What the server and the machine allow.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Most slots over all pools that `max_connections` leaves room for; `None` when unknown.
    pub slots_by_connections: Option<u32>,
    /// Locks that all sessions together can hold: `max_locks_per_transaction` for each connection and prepared transaction;
    /// `None` when unknown.
    pub lock_entries: Option<u64>,
    /// Free bytes where the clones are written; `None` when we cannot see that disk.
    pub free_disk_bytes: Option<u64>,
    /// No clone below this many free bytes.
    pub disk_floor_bytes: u64,
}

impl Limits {
    /// Whether nothing at all may be cloned.
    #[must_use]
    pub fn below_disk_floor(&self) -> bool {
        self.free_disk_bytes.is_some_and(|free| free < self.disk_floor_bytes)
    }

    /// Bytes that clones may take, down to the floor; `None` when we cannot see the disk.
    #[must_use]
    pub fn bytes_above_floor(&self) -> Option<u64> {
        self.free_disk_bytes.map(|free| free.saturating_sub(self.disk_floor_bytes))
    }
}

/// What the reconciler knows beside the catalog: time, demand, and which steps are under way.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlannerContext {
    /// Databases with a step under way.
    pub busy_databases: BTreeSet<DatabaseId>,
    /// Templates with a step under way.
    pub busy_templates: BTreeSet<TemplateId>,
    /// Live leases that were not renewed for their TTL, and for how long; see [`crate::watch::ExpiryWatch`].
    pub overdue: BTreeMap<LeaseId, Duration>,
    /// Sessions of their own login, for the leases that are overdue.
    pub sessions: BTreeMap<LeaseId, u32>,
    /// The longest that a connected session may hold an overdue lease, from its last renewal.
    pub max_ttl: Duration,
    /// Databases in use at once, lately, by pool and template; see [`crate::watch::DemandWatch`].
    pub recent_peak: BTreeMap<TemplateId, u32>,
}

impl Snapshot {
    /// The template with this number.
    #[must_use]
    pub fn template(&self, id: TemplateId) -> Option<&Template> {
        self.templates.iter().find(|template| template.id == id)
    }

    /// The database with this number.
    #[must_use]
    pub fn database(&self, id: DatabaseId) -> Option<&Database> {
        self.databases.iter().find(|database| database.id == id)
    }

    /// How many databases fulfil a condition.
    pub(crate) fn count_databases(&self, wanted: impl Fn(&Database) -> bool) -> u32 {
        u32::try_from(self.databases.iter().filter(|database| wanted(database)).count()).unwrap_or(u32::MAX)
    }

    /// Bytes that one clone of a template takes while it is made: its own, and as many of the server's log when pages are
    /// copied through it, which is so unless files are copied.
    #[must_use]
    pub fn bytes_of_clone(&self, template: &Template) -> u64 {
        let pool = self.pools.iter().find(|pool| pool.name == template.pool);
        let strategy = match pool.map(|pool| pool.settings.strategy) {
            Some(StrategyChoice::Fixed(fixed)) => Some(fixed),
            Some(StrategyChoice::Auto) | None => template.strategy,
        };
        let size = template.size_bytes.unwrap_or(0);
        if strategy == Some(Strategy::FileCopy) { size } else { size.saturating_mul(2) }
    }

    /// Whether the disk has no room for one more clone of this template.
    #[must_use]
    pub fn disk_is_short_for(&self, template: TemplateId) -> bool {
        let needed = self.template(template).map_or(0, |template| self.bytes_of_clone(template));
        self.limits.below_disk_floor() || self.limits.bytes_above_floor().is_some_and(|left| left < needed)
    }

    /// The newest ready template of a pool.
    #[must_use]
    pub fn newest_ready(&self, pool: &PoolName) -> Option<&Template> {
        self.templates
            .iter()
            .filter(|t| &t.pool == pool && t.state == crate::template::TemplateState::Ready)
            .max_by_key(|t| (t.built_at, t.id))
    }
}
