//! The snapshot: the planner's input, read in one pass. It can be stale when a step runs, so every step checks its own conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::database::{Database, DatabaseId};
use crate::lease::{Lease, LeaseId};
use crate::name::{Fingerprint, PoolName};
use crate::pool::{Pool, Strategy, StrategyChoice};
use crate::request::{TicketHolder, TicketId, TicketKind};
use crate::template::{Template, TemplateId, TemplateState, Timestamp};

/// The desired state from the catalog and the actual state of the server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Every pool.
    pub pools: Vec<Pool>,
    /// Every template, by number.
    pub templates: Vec<Template>,
    /// Every database, by number.
    pub databases: Vec<Database>,
    /// Every live lease.
    pub leases: Vec<Lease>,
    /// The waiters of running daemons, in ticket order.
    pub tickets: Vec<Ticket>,
    /// Announced runs that have neither ended nor expired.
    pub runs: Vec<AnnouncedRun>,
    /// All databases of the server by oid, those of pgdibs and others.
    pub server: BTreeMap<u32, ServerDatabase>,
    /// The limits of the server and the machine.
    pub limits: Limits,
    /// Host and port of the server as the daemon reaches it, for messages.
    pub server_address: String,
    /// When it was taken, by the server's clock.
    pub taken_at: Timestamp,
    /// The time from then until the first time that the catalog holds and that has not passed: a retry, the end of a kept database, the
    /// loss of a builder, the end of an announcement.
    pub next_change: Option<Duration>,
}

/// A waiting request.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    /// Its position in the queue.
    pub id: TicketId,
    /// The pool it waits for.
    pub pool: PoolName,
    /// The template it waits for.
    pub template: TemplateId,
    /// How many databases it needs at once.
    pub count: u32,
    /// Whether it needs ready databases or a spare.
    pub kind: TicketKind,
    /// Who waits.
    pub holder: TicketHolder,
    /// Seconds it has waited, by the server's clock.
    pub waited_seconds: f64,
}

/// The announced need of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedRun {
    /// The test session.
    pub run: String,
    /// The pool.
    pub pool: PoolName,
    /// The announced template; `None` means the pool's current one.
    pub fingerprint: Option<Fingerprint>,
    /// Workers times aliases.
    pub wanted: u32,
    /// Live leases that the run already holds on that pool.
    pub held: u32,
}

/// A database as listed in `pg_database`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerDatabase {
    /// Its current name.
    pub name: String,
    /// Whether `pgdibs_owner` owns it.
    pub owned: bool,
    /// Whether a drop of it was interrupted (`datconnlimit = -2`): Postgres only allows another drop.
    pub invalid: bool,
    /// Whether it accepts connections (`datallowconn`).
    pub open: bool,
    /// Current sessions.
    pub sessions: u32,
    /// Sessions since its creation, if the server counts them.
    pub sessions_ever: u64,
    /// Whether it is a ready database or a spare whose login is missing or has no LOGIN.
    pub locked_out: bool,
}

/// The limits of the server and the machine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// The maximum of slots over all pools that `max_connections` allows; `None` if unknown.
    pub slots_by_connections: Option<u32>,
    /// Locks that all sessions together can hold: `max_locks_per_transaction` for each connection and prepared transaction;
    /// `None` if unknown.
    pub lock_entries: Option<u64>,
    /// Free bytes on the disk of the data directory; `None` if the daemon cannot access that disk.
    pub free_disk_bytes: Option<u64>,
    /// The planner starts no clone below this many free bytes.
    pub disk_floor_bytes: u64,
    /// Whether the server can let a clone share the blocks of its template, on a file system that can: `file_copy_method = clone`, from
    /// Postgres 18 on.
    pub clones_files: bool,
}

impl Limits {
    /// Whether the free disk space is below the floor, so that the planner starts no clone.
    #[must_use]
    pub fn below_disk_floor(&self) -> bool {
        self.free_disk_bytes.is_some_and(|free| free < self.disk_floor_bytes)
    }

    /// Bytes that clones may use before the floor is reached; `None` if the daemon cannot access the disk.
    #[must_use]
    pub fn bytes_above_floor(&self) -> Option<u64> {
        self.free_disk_bytes.map(|free| free.saturating_sub(self.disk_floor_bytes))
    }
}

/// The planner's inputs from the reconciler's memory: time, demand, and the steps in progress.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlannerContext {
    /// Databases with a step in progress.
    pub busy_databases: BTreeSet<DatabaseId>,
    /// Templates with a step in progress.
    pub busy_templates: BTreeSet<TemplateId>,
    /// Live leases not renewed for their TTL, each with the time since the last renewal; see [`crate::watch::ExpiryWatch`].
    pub overdue: BTreeMap<LeaseId, Duration>,
    /// For each overdue lease, the sessions of its login.
    pub sessions: BTreeMap<LeaseId, u32>,
    /// How long after its last renewal a lease with a connected session ends.
    pub max_ttl: Duration,
    /// The recent peak of databases in use at once, by template; see [`crate::watch::DemandWatch`].
    pub recent_peak: BTreeMap<TemplateId, u32>,
}

impl Snapshot {
    /// The template with this number.
    #[must_use]
    pub fn template(&self, id: TemplateId) -> Option<&Template> {
        self.templates.iter().find(|template| template.id == id)
    }

    /// The pool with this name.
    pub(crate) fn pool(&self, name: &PoolName) -> Option<&Pool> {
        self.pools.iter().find(|pool| &pool.name == name)
    }

    /// The server's database with the oid of a row.
    pub(crate) fn on_server(&self, oid: Option<u32>) -> Option<&ServerDatabase> {
        self.server.get(&oid?)
    }

    /// The database with this number.
    #[must_use]
    pub fn database(&self, id: DatabaseId) -> Option<&Database> {
        let found = self.databases.binary_search_by_key(&id, |database| database.id);
        found.ok().and_then(|index| self.databases.get(index))
    }

    pub(crate) fn count_databases(&self, condition: impl Fn(&Database) -> bool) -> u32 {
        u32::try_from(self.databases.iter().filter(|database| condition(database)).count()).unwrap_or(u32::MAX)
    }

    /// Bytes that one clone of a template uses while `create database` runs: what it takes on the disk, and its size again in WAL unless
    /// the strategy is the file copy.
    #[must_use]
    pub fn bytes_of_clone(&self, template: &Template) -> u64 {
        let strategy = match self.pool(&template.pool).map(|pool| pool.settings.strategy) {
            Some(StrategyChoice::Fixed(fixed)) => Some(fixed),
            Some(StrategyChoice::Auto) | None => template.auto_strategy(),
        };
        if strategy == Some(Strategy::FileCopy) {
            return template.disk_of_clone().unwrap_or(0);
        }
        template.size_bytes.unwrap_or(0).saturating_mul(2)
    }

    /// Whether one more clone of this template would take the disk below its floor.
    #[must_use]
    pub fn disk_is_short_for(&self, template: TemplateId) -> bool {
        let needed = self.template(template).map_or(0, |template| self.bytes_of_clone(template));
        self.limits.below_disk_floor() || self.limits.bytes_above_floor().is_some_and(|left| left < needed)
    }

    /// The pool's current template: the ready one that a `PUT` named or a seal published last, else the newest ready one.
    #[must_use]
    pub fn current_template(&self, pool: &PoolName) -> Option<&Template> {
        let ready = self.templates.iter().filter(|t| &t.pool == pool && t.state == TemplateState::Ready);
        ready.max_by_key(|t| self.precedence(t))
    }

    /// Orders the ready templates of a pool: the current one is the greatest, then the newer ones.
    pub(crate) fn precedence(&self, template: &Template) -> (bool, Option<Timestamp>, TemplateId) {
        let current = self.pool(&template.pool).and_then(|pool| pool.current_template);
        (current == Some(template.id), template.built_at, template.id)
    }
}
