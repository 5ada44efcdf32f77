//! A builder for snapshots: one call per pool, template, database, lease or ticket.

use std::time::Duration;

use uuid::Uuid;

use crate::database::{Database, DatabaseId, DatabaseState};
use crate::lease::{Credentials, Lease, LeaseState};
use crate::name::{DatabaseName, Fingerprint, PoolName};
use crate::pool::{Pool, PoolSettings};
use crate::request::{TicketHolder, TicketId, TicketKind};
use crate::snapshot::{AnnouncedRun, PlannerContext, ServerDatabase, Snapshot, Ticket};
use crate::template::{Template, TemplateId, TemplateState, Timestamp};

/// A snapshot and a context. Databases get the oid 1000 + id, templates 2000 + id.
#[derive(Debug, Clone, Default)]
pub(super) struct Example {
    pub(super) snapshot: Snapshot,
    pub(super) context: PlannerContext,
}

/// A snapshot with pool `app`.
pub(super) fn example(warm: u32, max: u32, spares: u32) -> Example {
    let mut example = Example::default();
    example.context.max_ttl = Duration::from_secs(3600);
    example.pool("app", warm, max, spares)
}

fn oid_of(id: i64) -> u32 {
    u32::try_from(id).unwrap() + 1000
}

impl Example {
    /// Another pool; later calls add to it.
    pub(super) fn pool(mut self, name: &str, warm: u32, max: u32, spares: u32) -> Self {
        let name = PoolName::parse(name).unwrap();
        let settings = PoolSettings { warm, max, spares, ..PoolSettings::of(&name) };
        self.snapshot.pools.push(Pool {
            name,
            settings,
            sourced: false,
            dropping: false,
            unused_seconds: 0,
            current_template: None,
        });
        self
    }

    pub(super) fn last_pool(&mut self) -> &mut Pool {
        self.snapshot.pools.last_mut().unwrap()
    }

    fn pool_name(&self) -> PoolName {
        self.snapshot.pools.last().unwrap().name.clone()
    }

    pub(super) fn dropping(mut self) -> Self {
        self.last_pool().dropping = true;
        self
    }

    fn put_on_server(&mut self, oid: u32, name: &str, owned: bool) {
        let found = ServerDatabase {
            name: name.to_owned(),
            owned,
            invalid: false,
            open: true,
            sessions: 0,
            sessions_ever: 0,
            locked_out: false,
        };
        self.snapshot.server.insert(oid, found);
    }

    /// A ready template, used just now; a higher number is newer.
    pub(super) fn template(mut self, id: i64) -> Self {
        let pool = self.pool_name();
        let fingerprint = Fingerprint::parse(&format!("fingerprint {id}")).unwrap();
        let name = DatabaseName::template(&pool, &fingerprint);
        let oid = u32::try_from(id).unwrap() + 2000;
        self.put_on_server(oid, name.as_str(), true);
        self.snapshot.templates.push(Template {
            id: TemplateId(id),
            pool,
            fingerprint,
            state: TemplateState::Ready,
            name,
            oid: Some(oid),
            holder: "ci-7".to_owned(),
            seal_requested: false,
            builder_silent: false,
            build_started_at: Timestamp(id),
            built_seconds: Some(1.0),
            built_at: Some(Timestamp(id)),
            size_bytes: None,
            relations: None,
            last_used_at: Timestamp(id),
            unused_seconds: 0,
            leased: true,
            strategy: None,
            measured: Vec::new(),
            clone_seconds: None,
            clone_bytes: None,
            collations_changed: false,
            clone_error: None,
            input_changes: None,
            detail: None,
            due: true,
        });
        self
    }

    /// A template that is being built in an existing database.
    pub(super) fn building(self, id: i64) -> Self {
        self.template(id).change_template(id, |t| {
            t.state = TemplateState::Building;
            t.name = DatabaseName::build(&t.pool, id);
            t.built_at = None;
        })
    }

    pub(super) fn change_template(mut self, id: i64, change: impl FnOnce(&mut Template)) -> Self {
        let template = self.snapshot.templates.iter_mut().find(|t| t.id.0 == id).unwrap();
        change(template);
        let (oid, name) = (template.oid, template.name.as_str().to_owned());
        self.snapshot.server.remove(&(u32::try_from(id).unwrap() + 2000));
        if let Some(oid) = oid {
            self.put_on_server(oid, &name, true);
        }
        self
    }

    /// Names a template of the pool, as a `PUT` does.
    pub(super) fn current(mut self, template: i64) -> Self {
        self.last_pool().current_template = Some(TemplateId(template));
        self
    }

    pub(super) fn pool_unused_for(mut self, seconds: u64) -> Self {
        self.last_pool().unused_seconds = seconds;
        self
    }

    pub(super) fn unused_for(self, id: i64, seconds: u64) -> Self {
        self.change_template(id, |t| t.unused_seconds = seconds)
    }

    /// A database of the last template.
    fn database(mut self, id: i64, state: DatabaseState, name: DatabaseName, slot: Option<u32>) -> Self {
        let template = self.snapshot.templates.last().unwrap();
        let (pool, template) = (template.pool.clone(), template.id);
        let cloned = state != DatabaseState::Creating;
        if cloned {
            self.put_on_server(oid_of(id), name.as_str(), true);
        }
        self.snapshot.databases.push(Database {
            id: DatabaseId(id),
            pool,
            template,
            state,
            name,
            oid: cloned.then(|| oid_of(id)),
            slot,
            keep_until: None,
            keep_lease: None,
            keep_expired: false,
            reason: None,
            attempts: 0,
            due: true,
            last_error: None,
            created_at: Timestamp(id),
            ready_at: slot.map(|_| Timestamp(id)),
        });
        self.snapshot.databases.sort_by_key(|database| database.id);
        self
    }

    pub(super) fn creating(self, id: i64) -> Self {
        let name = DatabaseName::spare(&self.pool_name(), id);
        self.database(id, DatabaseState::Creating, name, None)
    }

    pub(super) fn spare(self, id: i64) -> Self {
        let name = DatabaseName::spare(&self.pool_name(), id);
        self.database(id, DatabaseState::Spare, name, None)
    }

    /// A database in a slot.
    pub(super) fn in_slot(self, id: i64, state: DatabaseState, slot: u32) -> Self {
        let name = DatabaseName::slot(&self.pool_name(), slot);
        self.database(id, state, name, Some(slot))
    }

    pub(super) fn ready(self, id: i64, slot: u32) -> Self {
        self.in_slot(id, DatabaseState::Ready, slot)
    }

    pub(super) fn retiring(self, id: i64, slot: u32) -> Self {
        self.in_slot(id, DatabaseState::Retiring, slot)
    }

    /// A used database outside every slot.
    pub(super) fn old(self, id: i64) -> Self {
        let name = DatabaseName::old(&self.pool_name(), id);
        self.database(id, DatabaseState::Retiring, name, None)
    }

    pub(super) fn kept(self, id: i64) -> Self {
        let name = DatabaseName::kept(&self.pool_name(), id);
        self.database(id, DatabaseState::Kept, name, None).change(id, |d| d.keep_until = Some(Timestamp(9)))
    }

    /// A leased database and its lease with the same number.
    pub(super) fn leased(mut self, id: i64, slot: u32) -> Self {
        self = self.in_slot(id, DatabaseState::Leased, slot);
        let template = self.snapshot.templates.last().unwrap();
        self.snapshot.leases.push(Lease {
            id: Uuid::from_u128(u128::try_from(id).unwrap()),
            state: LeaseState::Live,
            pool: template.pool.clone(),
            fingerprint: template.fingerprint.clone(),
            template: template.id,
            database: Some(DatabaseId(id)),
            database_name: DatabaseName::slot(&template.pool, slot).as_str().to_owned(),
            slot,
            credentials: Some(Credentials { user: format!("pgdibs_l_{id}"), password: "secret".into() }),
            run: None,
            worker: None,
            alias: "default".to_owned(),
            holder: "ci-7".to_owned(),
            generation: 1,
            ttl_seconds: 60,
            renewals: 0,
            reset_to: None,
            acquired_at: Timestamp(id),
            expires_at: Timestamp(id + 60),
            ended_at: None,
            ended_reason: None,
        });
        self
    }

    pub(super) fn change(mut self, id: i64, change: impl FnOnce(&mut Database)) -> Self {
        change(self.snapshot.databases.iter_mut().find(|d| d.id.0 == id).unwrap());
        self
    }

    pub(super) fn not_due(self, id: i64) -> Self {
        self.change(id, |d| d.due = false)
    }

    pub(super) fn on_server(mut self, id: i64, change: impl FnOnce(&mut ServerDatabase)) -> Self {
        change(self.snapshot.server.get_mut(&oid_of(id)).unwrap());
        self
    }

    pub(super) fn vanished(mut self, id: i64) -> Self {
        self.snapshot.server.remove(&oid_of(id));
        self
    }

    /// A database without a row in the catalog.
    pub(super) fn other(mut self, oid: u32, name: &str, owned: bool) -> Self {
        self.put_on_server(oid, name, owned);
        self
    }

    pub(super) fn busy(mut self, id: i64) -> Self {
        self.context.busy_databases.insert(DatabaseId(id));
        self
    }

    /// A waiting request for `count` databases of a template.
    pub(super) fn waiting(mut self, template: i64, kind: TicketKind, count: u32) -> Self {
        let id = TicketId(i64::try_from(self.snapshot.tickets.len()).unwrap());
        let found = self.snapshot.template(TemplateId(template)).unwrap();
        let (pool, template) = (found.pool.clone(), found.id);
        self.snapshot.tickets.push(Ticket {
            id,
            pool,
            template,
            count,
            kind,
            holder: TicketHolder::default(),
            waited_seconds: 0.0,
        });
        self
    }

    pub(super) fn announced(mut self, template: Option<i64>, wanted: u32, held: u32) -> Self {
        let found = template.map(|id| self.snapshot.template(TemplateId(id)).unwrap());
        let fingerprint = found.map(|t| t.fingerprint.clone());
        let run = format!("run {}", self.snapshot.runs.len());
        self.snapshot.runs.push(AnnouncedRun { run, pool: self.pool_name(), fingerprint, wanted, held });
        self
    }

    pub(super) fn peak(mut self, template: i64, count: u32) -> Self {
        self.context.recent_peak.insert(TemplateId(template), count);
        self
    }

    pub(super) fn overdue(mut self, lease: u128, seconds: u64) -> Self {
        self.context.overdue.insert(Uuid::from_u128(lease), Duration::from_secs(seconds));
        self
    }

    pub(super) fn connected(mut self, lease: u128) -> Self {
        self.context.sessions.insert(Uuid::from_u128(lease), 1);
        self
    }

    pub(super) fn resetting(mut self, lease: u128, spare: i64) -> Self {
        let found = self.snapshot.leases.iter_mut().find(|l| l.id == Uuid::from_u128(lease)).unwrap();
        found.reset_to = Some(DatabaseId(spare));
        self
    }
}
