//! Answers about pools, databases, waiters and runs, made from one snapshot.

use pgdibs_core::database::{Database, DatabaseState};
use pgdibs_core::pool::Pool;
use pgdibs_core::request::TicketKind;
use pgdibs_core::snapshot::{AnnouncedRun, Snapshot, Ticket};
use serde::Serialize;

use super::responses::{TemplateOut, rfc3339};

/// A pool with its settings, its counts and its templates.
#[derive(Debug, Serialize)]
pub(super) struct PoolOut {
    pool: String,
    warm: u32,
    max: u32,
    spares: u32,
    owner: String,
    strategy: &'static str,
    extensions: Vec<String>,
    roles: Vec<String>,
    keep_templates: u32,
    template_max_age_seconds: u64,
    login: &'static str,
    connection_limit: u32,
    sourced: bool,
    dropping: bool,
    counts: Counts,
    longest_wait_seconds: f64,
    templates: Vec<TemplateOut>,
    blocked: Vec<BlockedOut>,
}

/// How many databases are in which state; `waiting` counts callers.
#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) ready: usize,
    pub(super) leased: usize,
    pub(super) spare: usize,
    pub(super) creating: usize,
    pub(super) retiring: usize,
    pub(super) kept: usize,
    pub(super) blocked: usize,
    pub(super) waiting: usize,
}

impl Counts {
    pub(super) fn of(pool: &Pool, snapshot: &Snapshot) -> Self {
        let mut counts = Self::default();
        for database in snapshot.databases.iter().filter(|database| database.pool == pool.name) {
            *match database.state {
                DatabaseState::Ready => &mut counts.ready,
                DatabaseState::Leased => &mut counts.leased,
                DatabaseState::Spare => &mut counts.spare,
                DatabaseState::Creating => &mut counts.creating,
                DatabaseState::Retiring => &mut counts.retiring,
                DatabaseState::Kept => &mut counts.kept,
                DatabaseState::Blocked => &mut counts.blocked,
            } += 1;
        }
        counts.waiting = snapshot.tickets.iter().filter(|ticket| ticket.pool == pool.name).count();
        counts
    }
}

/// A database that could not be worked on.
#[derive(Debug, Serialize)]
struct BlockedOut {
    database: String,
    reason: Option<String>,
    attempts: u32,
    last_error: Option<String>,
}

impl PoolOut {
    pub(super) fn new(pool: &Pool, snapshot: &Snapshot) -> Self {
        let settings = &pool.settings;
        Self {
            pool: pool.name.to_string(),
            warm: settings.warm,
            max: settings.max,
            spares: settings.spares,
            owner: settings.owner.to_string(),
            strategy: settings.strategy.as_str(),
            extensions: settings.extensions.clone(),
            roles: settings.roles.iter().map(ToString::to_string).collect(),
            keep_templates: settings.keep_templates,
            template_max_age_seconds: settings.template_max_age_seconds,
            login: settings.login.as_str(),
            connection_limit: settings.connection_limit,
            sourced: pool.sourced,
            dropping: pool.dropping,
            counts: Counts::of(pool, snapshot),
            longest_wait_seconds: longest_wait(pool, snapshot),
            templates: snapshot.templates.iter().filter(|t| t.pool == pool.name).map(TemplateOut::from).collect(),
            blocked: snapshot
                .databases
                .iter()
                .filter(|database| database.pool == pool.name && database.state == DatabaseState::Blocked)
                .map(|database| BlockedOut {
                    database: database.name.to_string(),
                    reason: database.reason.clone(),
                    attempts: database.attempts,
                    last_error: database.last_error.clone(),
                })
                .collect(),
        }
    }
}

/// How long the longest waiter of a pool has waited, in seconds.
pub(super) fn longest_wait(pool: &Pool, snapshot: &Snapshot) -> f64 {
    let add_waiter =
        snapshot.tickets.iter().filter(|ticket| ticket.pool == pool.name).map(|ticket| ticket.waited_seconds);
    add_waiter.fold(0.0, f64::max)
}

/// A database.
#[derive(Debug, Serialize)]
pub(super) struct DatabaseOut {
    database: String,
    pool: String,
    state: &'static str,
    slot: Option<u32>,
    fingerprint: Option<String>,
    oid: Option<u32>,
    sessions: Option<u32>,
    lease: Option<String>,
    created_at: String,
    ready_at: Option<String>,
    kept_until: Option<String>,
    reason: Option<String>,
    attempts: u32,
    last_error: Option<String>,
}

impl DatabaseOut {
    pub(super) fn new(database: &Database, snapshot: &Snapshot) -> Self {
        Self {
            database: database.name.to_string(),
            pool: database.pool.to_string(),
            state: database.state.as_str(),
            slot: database.slot,
            fingerprint: snapshot.template(database.template).map(|template| template.fingerprint.to_string()),
            oid: database.oid,
            sessions: database.oid.and_then(|oid| snapshot.server.get(&oid)).map(|found| found.sessions),
            lease: snapshot.leases.iter().find(|l| l.database == Some(database.id)).map(|l| l.id.to_string()),
            created_at: rfc3339(database.created_at),
            ready_at: database.ready_at.map(rfc3339),
            kept_until: database.keep_until.map(rfc3339),
            reason: database.reason.clone(),
            attempts: database.attempts,
            last_error: database.last_error.clone(),
        }
    }
}

/// A waiter.
#[derive(Debug, Serialize)]
pub(super) struct WaiterOut {
    ticket: i64,
    pool: String,
    fingerprint: Option<String>,
    wants: &'static str,
    count: u32,
    waited_seconds: f64,
}

impl WaiterOut {
    pub(super) fn new(ticket: &Ticket, snapshot: &Snapshot) -> Self {
        Self {
            ticket: ticket.id.0,
            pool: ticket.pool.to_string(),
            fingerprint: snapshot.template(ticket.template).map(|template| template.fingerprint.to_string()),
            wants: match ticket.kind {
                TicketKind::Acquire => "acquire",
                TicketKind::Exact => "exact",
                TicketKind::Reset => "reset",
            },
            count: ticket.count,
            waited_seconds: ticket.waited_seconds,
        }
    }
}

/// An announced run.
#[derive(Debug, Serialize)]
pub(super) struct RunOut {
    run: String,
    pool: String,
    fingerprint: Option<String>,
    wanted: u32,
    held: u32,
}

impl From<&AnnouncedRun> for RunOut {
    fn from(run: &AnnouncedRun) -> Self {
        Self {
            run: run.run.clone(),
            pool: run.pool.to_string(),
            fingerprint: run.fingerprint.as_ref().map(ToString::to_string),
            wanted: run.wanted,
            held: run.held,
        }
    }
}
