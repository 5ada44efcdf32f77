//! The snapshot of the fake backend.

use std::time::Duration;

use super::catalog::{DatabaseRow, State, login_of, seconds, timestamp};
use super::leasing::ANNOUNCEMENT_SECONDS;
use super::templates::BUILDER_GRACE_SECONDS;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::pool::Pool;
use pgdibs_core::snapshot::{AnnouncedRun, ServerDatabase, Snapshot, Ticket};
use pgdibs_core::template::TemplateState;

impl State {
    pub(super) fn snapshot(&self) -> Snapshot {
        let now = timestamp(self.now);
        let templates = self.templates.values().map(|row| {
            let mut seen = row.seen.clone();
            seen.builder_silent = self.builder_is_silent(seen.id);
            seen.unused_seconds = whole_seconds(self.now - row.last_used);
            seen.due = row.retry_at <= self.now;
            seen
        });
        let databases = self.databases.values().map(|row| {
            let mut seen = row.seen.clone();
            seen.keep_expired = seen.keep_until.is_some_and(|until| until <= now);
            seen.due = row.retry_at <= self.now;
            seen
        });
        let tickets = self.tickets.iter().map(|(&id, row)| Ticket {
            id,
            pool: row.pool.clone(),
            template: row.template,
            count: row.count,
            kind: row.kind,
            holder: row.holder.clone(),
            waited_seconds: self.now - row.since,
        });
        let ready_row = |oid| {
            let ready = |row: &&DatabaseRow| row.seen.oid == Some(oid) && row.seen.state == DatabaseState::Ready;
            self.databases.values().find(ready)
        };
        let can_log_in =
            |row: &DatabaseRow| self.server.logins.get(&login_of(row.seen.id.0)).is_some_and(|l| l.can_login);
        let server = self.server.databases.iter().map(|(&oid, found)| {
            let seen = ServerDatabase {
                name: found.name.clone(),
                owned: found.owned,
                invalid: found.invalid,
                open: found.allow_connections,
                sessions: self.server.sessions_of(oid),
                sessions_ever: found.sessions_ever,
                locked_out: ready_row(oid).is_some_and(|row| !can_log_in(row)),
            };
            (oid, seen)
        });
        let pools = self.pools.values().map(|pool| {
            let used = self.pools_used.get(&pool.name).copied().unwrap_or(self.now);
            Pool { unused_seconds: whole_seconds(self.now - used), ..pool.clone() }
        });
        Snapshot {
            pools: pools.collect(),
            templates: templates.collect(),
            databases: databases.collect(),
            leases: self.live().cloned().collect(),
            tickets: tickets.collect(),
            runs: self.announced_runs(),
            server: server.collect(),
            limits: self.limits.clone(),
            server_address: "127.0.0.1:5432".to_owned(),
            taken_at: timestamp(self.now),
            next_change: self.next_change(),
        }
    }

    fn next_change(&self) -> Option<Duration> {
        let retries = self.templates.values().map(|row| row.retry_at);
        let retries = retries.chain(self.databases.values().map(|row| row.retry_at));
        let kept = self.databases.values().filter_map(|row| row.seen.keep_until).map(seconds);
        let announced = self.runs.values().filter(|row| row.announced.is_some());
        let announced = announced.map(|row| row.last_put + ANNOUNCEMENT_SECONDS);
        let building = self.templates.values().filter(|row| row.seen.state == TemplateState::Building);
        let building = building.map(|row| row.last_renewed + BUILDER_GRACE_SECONDS);
        let times = retries.chain(kept).chain(announced).chain(building).filter(|at| *at > self.now);
        times.min_by(f64::total_cmp).map(|at| Duration::from_secs_f64(at - self.now))
    }

    /// Announced runs that have neither ended nor expired.
    pub(super) fn announced_runs(&self) -> Vec<AnnouncedRun> {
        self.runs
            .iter()
            .filter(|(_, row)| !row.ended)
            .filter_map(|(run, row)| {
                let (pool, fingerprint, wanted) = row.announced.clone()?;
                let holds = self.live().any(|lease| lease.run.as_ref() == Some(run));
                let held = self.live().filter(|lease| lease.run.as_ref() == Some(run) && lease.pool == pool).count();
                let fresh = self.now - row.last_put < ANNOUNCEMENT_SECONDS;
                let held = u32::try_from(held).unwrap_or(u32::MAX);
                (fresh || holds).then(|| AnnouncedRun { run: run.clone(), pool, fingerprint, wanted, held })
            })
            .collect()
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test's clock starts at 0 and goes forward"
)]
fn whole_seconds(seconds: f64) -> u64 {
    seconds.max(0.0) as u64
}
