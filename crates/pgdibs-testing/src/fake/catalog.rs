//! The catalog of the fake backend: rows, the sequence, and what requests and steps share.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;

use super::server::Server;
use pgdibs_core::database::{Database, DatabaseId, DatabaseState};
use pgdibs_core::error::Error;
use pgdibs_core::inputs::Inputs;
use pgdibs_core::lease::{Credentials, Lease, LeaseId, LeaseState};
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName};
use pgdibs_core::pool::Pool;
use pgdibs_core::request::{ReportedRun, TicketHolder, TicketId, TicketKind};
use pgdibs_core::snapshot::Limits;
use pgdibs_core::template::{Template, TemplateId, TemplateState, Timestamp};

/// A row of a database, with the columns that [`Database`] lacks.
#[derive(Debug, Clone)]
pub(super) struct DatabaseRow {
    pub(super) seen: Database,
    /// The password of its login.
    pub(super) password: SecretString,
    /// The login with access to it while it is kept.
    pub(super) kept_login: Option<Credentials>,
    pub(super) retry_at: f64,
}

#[derive(Debug, Clone)]
pub(super) struct TemplateRow {
    pub(super) seen: Template,
    pub(super) token: String,
    pub(super) builder: Option<Credentials>,
    pub(super) last_renewed: f64,
    pub(super) last_used: f64,
    pub(super) retry_at: f64,
    /// Only a test sets it: daemons write it.
    pub(super) log: Option<String>,
    pub(super) inputs: Inputs,
}

#[derive(Debug, Clone)]
pub(super) struct LeaseRow {
    /// Keeps the credentials after the end.
    pub(super) seen: Lease,
    pub(super) ended: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct RunRow {
    pub(super) announced: Option<(PoolName, Option<Fingerprint>, u32)>,
    pub(super) last_put: f64,
    pub(super) ended: bool,
}

#[derive(Debug, Clone)]
pub(super) struct TicketRow {
    pub(super) pool: PoolName,
    pub(super) template: TemplateId,
    pub(super) count: u32,
    pub(super) kind: TicketKind,
    pub(super) holder: TicketHolder,
    pub(super) since: f64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Seconds since an arbitrary start.
    pub(super) now: f64,
    pub(super) server: Server,
    pub(super) limits: Limits,
    pub(super) pools: BTreeMap<PoolName, Pool>,
    /// The last use of each pool.
    pub(super) pools_used: BTreeMap<PoolName, f64>,
    pub(super) templates: BTreeMap<TemplateId, TemplateRow>,
    pub(super) databases: BTreeMap<DatabaseId, DatabaseRow>,
    pub(super) leases: BTreeMap<LeaseId, LeaseRow>,
    pub(super) runs: BTreeMap<String, RunRow>,
    pub(super) tickets: BTreeMap<TicketId, TicketRow>,
    /// In the order in which they came.
    pub(super) reports: Vec<ReportedRun>,
    sequence: i64,
}

/// How long the catalog keeps an ended lease.
const RETENTION_SECONDS: f64 = 24.0 * 3600.0;

pub(super) fn login_of(number: i64) -> String {
    RoleName::login(number).as_str().to_owned()
}

impl State {
    /// The next number of the sequence that databases, templates and logins share.
    pub(super) fn next_number(&mut self) -> i64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn timestamp(&self) -> Timestamp {
        timestamp(self.now)
    }

    pub(super) fn pool(&self, pool: &PoolName) -> Result<&Pool, Error> {
        self.pools.get(pool).filter(|found| !found.dropping).ok_or_else(|| Error::pool_not_found(pool))
    }

    /// The building or ready template of this fingerprint.
    pub(super) fn current(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Option<&TemplateRow> {
        self.templates.values().find(|row| {
            &row.seen.pool == pool
                && &row.seen.fingerprint == fingerprint
                && matches!(row.seen.state, TemplateState::Building | TemplateState::Ready)
        })
    }

    /// The current template of a pool: the one named or sealed last, else the newest ready one, else the newest that is being built.
    pub(super) fn current_template(&self, pool: &Pool) -> Option<&TemplateRow> {
        let is_live = |row: &&TemplateRow| {
            row.seen.pool == pool.name && matches!(row.seen.state, TemplateState::Building | TemplateState::Ready)
        };
        self.templates.values().filter(is_live).max_by_key(|row| {
            let is_ready = row.seen.state == TemplateState::Ready;
            (is_ready, pool.current_template == Some(row.seen.id), row.seen.built_at, row.seen.id)
        })
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values().map(|row| &row.seen).filter(|lease| lease.state == LeaseState::Live)
    }

    /// Spares that a reset in progress has reserved.
    pub(super) fn reserved(&self) -> BTreeSet<DatabaseId> {
        self.live().filter_map(|lease| lease.reset_to).collect()
    }

    pub(super) fn remembered(&self, id: LeaseId) -> Result<&LeaseRow, Error> {
        self.leases
            .get(&id)
            .filter(|row| row.ended.is_none_or(|ended| self.now - ended < RETENTION_SECONDS))
            .ok_or_else(|| Error::LeaseNotFound(id.to_string()))
    }

    /// The lease without credentials after its end, as in the API.
    pub(super) fn shown(lease: &Lease) -> Lease {
        let mut shown = lease.clone();
        if shown.state != LeaseState::Live {
            shown.credentials = None;
        }
        shown
    }

    /// The lease, or an error if it has ended.
    pub(super) fn live_lease(&self, id: LeaseId) -> Result<&Lease, Error> {
        let lease = &self.remembered(id)?.seen;
        if lease.state == LeaseState::Live {
            return Ok(lease);
        }
        Err(Error::LeaseEnded {
            id: id.to_string(),
            state: lease.state,
            ended: lease.ended_at.map_or_else(String::new, |at| format!("{} s", at.0 / 1_000_000)),
            reason: lease.ended_reason.clone().unwrap_or_default(),
            at: lease.ended_at,
        })
    }

    /// Ends a lease and retires or keeps its database; one statement, no DDL.
    pub(super) fn end(&mut self, id: LeaseId, state: LeaseState, reason: &str) -> Result<bool, Error> {
        self.remembered(id)?;
        let (now, stamp) = (self.now, self.timestamp());
        let Some(row) = self.leases.get_mut(&id).filter(|row| row.seen.state == LeaseState::Live) else {
            return Ok(false);
        };
        row.ended = Some(now);
        row.seen.state = state;
        row.seen.ended_at = Some(stamp);
        row.seen.ended_reason = Some(reason.to_owned());
        row.seen.reset_to = None;
        if let Some(database) = row.seen.database.and_then(|id| self.databases.get_mut(&id)) {
            database.seen.state = state_after_lease(database.seen.keep_until);
            if database.seen.reason.is_none() {
                database.seen.reason = Some(reason.to_owned());
            }
            database.seen.attempts = 0;
            database.retry_at = 0.0;
        }
        self.pools_used.insert(row.seen.pool.clone(), now);
        Ok(true)
    }

    /// The number and the holders of live leases, for error texts.
    pub(super) fn holders(&self, held: impl Fn(&Lease) -> bool) -> (usize, String) {
        let holders: Vec<String> = self.live().filter(|lease| held(lease)).map(|lease| lease.holder.clone()).collect();
        (holders.len(), holders.join(", "))
    }

    /// Drops the logins of this database that no live lease uses: its own, and those that resets moved to it.
    pub(super) fn drop_logins_of(&mut self, id: DatabaseId, also: &BTreeSet<String>) {
        let used: BTreeSet<String> =
            self.live().filter_map(|lease| lease.credentials.as_ref()).map(|found| found.user.clone()).collect();
        let mut names = also.clone();
        names.insert(login_of(id.0));
        for name in names.difference(&used) {
            self.server.drop_login(name);
        }
    }

    /// Deletes the row of a database and the references to it.
    pub(super) fn delete_database(&mut self, id: DatabaseId) {
        self.databases.remove(&id);
        self.free_reservation(id);
        for row in self.leases.values_mut() {
            if row.seen.database == Some(id) {
                row.seen.database = None;
            }
        }
    }

    /// Frees the reservation of this database; its reset must reserve another.
    pub(super) fn free_reservation(&mut self, id: DatabaseId) {
        for row in self.leases.values_mut() {
            if row.seen.reset_to == Some(id) {
                row.seen.reset_to = None;
            }
        }
    }

    /// Whether a lease can use the database: it exists under its name, is valid, and never had a session.
    pub(super) fn is_untouched(&self, database: &Database) -> bool {
        database.oid.is_some_and(|oid| {
            self.server.is_named(oid, database.name.as_str())
                && self.server.sessions_of(oid) == 0
                && self.server.databases.get(&oid).is_some_and(|found| found.sessions_ever == 0 && !found.invalid)
        })
    }

    /// Databases on the server with names of a pool and without a row.
    pub(super) fn foreign(&self, pool: &PoolName) -> Vec<String> {
        let known: BTreeSet<u32> = self
            .databases
            .values()
            .filter_map(|row| row.seen.oid)
            .chain(self.templates.values().filter_map(|row| row.seen.oid))
            .collect();
        self.server
            .databases
            .iter()
            .filter(|(oid, found)| {
                !known.contains(*oid) && !found.owned && DatabaseName::recognise(pool, &found.name).is_some()
            })
            .map(|(_, found)| found.name.clone())
            .collect()
    }
}

pub(super) fn state_after_lease(keep_until: Option<Timestamp>) -> DatabaseState {
    if keep_until.is_some() { DatabaseState::Kept } else { DatabaseState::Retiring }
}

#[allow(clippy::cast_possible_truncation, reason = "a test's clock stays far below 2^53 microseconds")]
pub(super) fn timestamp(seconds: f64) -> Timestamp {
    Timestamp((seconds * 1_000_000.0) as i64)
}

#[allow(clippy::cast_precision_loss, reason = "a test's clock starts at 0")]
pub(super) fn seconds(timestamp: Timestamp) -> f64 {
    timestamp.0 as f64 / 1_000_000.0
}
