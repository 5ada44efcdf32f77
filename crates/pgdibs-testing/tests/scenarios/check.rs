//! The invariants that hold at every moment of a scenario.

use std::collections::{BTreeMap, BTreeSet};

use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::lease::{Lease, LeaseId, LeaseState};
use pgdibs_core::name::DatabaseName;
use pgdibs_core::request::{TicketId, TicketKind};
use pgdibs_core::snapshot::Snapshot;

use crate::{Scenario, ready};

impl Scenario {
    pub(crate) fn check(&mut self) {
        let snapshot = self.snapshot();
        self.each_database_is_leased_once(&snapshot);
        self.live_leases_keep_their_database(&snapshot);
        self.foreign_databases_are_unchanged();
        self.own_databases_have_recognised_names(&snapshot);
        self.spares_are_closed(&snapshot);
        self.logins_of_ended_leases_cannot_connect(&snapshot);
    }

    fn each_database_is_leased_once(&self, snapshot: &Snapshot) {
        let mut leased = BTreeSet::new();
        let mut slots = BTreeSet::new();
        for lease in &snapshot.leases {
            let Some(id) = lease.database else { continue };
            assert!(leased.insert(id), "{id:?} is leased twice");
            let state = snapshot.database(id).map(|d| d.state);
            assert_eq!(state, Some(DatabaseState::Leased), "the database of live lease {}", lease.id);
        }
        for database in &snapshot.databases {
            if database.state == DatabaseState::Leased {
                assert!(leased.contains(&database.id), "{:?} is leased without a lease", database.id);
            }
            if let Some(slot) = database.slot {
                assert!(slots.insert((database.pool.clone(), slot)), "slot {slot} of {} is taken twice", database.pool);
                assert_eq!(database.name, DatabaseName::slot(&database.pool, slot));
            }
        }
    }

    /// A live lease whose database exists does not end, and its database has no other data.
    fn live_leases_keep_their_database(&mut self, snapshot: &Snapshot) {
        let ids: Vec<LeaseId> = self.held.keys().copied().collect();
        for id in ids {
            let found = ready(self.backend.lease(id)).unwrap();
            let held = &self.held[&id];
            if found.state != LeaseState::Live {
                let unrenewed = self.backend.now() - held.renewed;
                #[allow(clippy::cast_precision_loss, reason = "seconds")]
                let expired = found.state == LeaseState::Expired && unrenewed >= held.lease.ttl_seconds as f64;
                let revoked = found.state == LeaseState::Revoked && held.damaged;
                assert!(expired || revoked, "lease {id} ended without cause: {found:?}");
                assert_eq!(found.credentials, None, "an ended lease has no credentials");
                self.end_held(id);
                continue;
            }
            if held.damaged {
                // A reset replaces a database that was changed externally.
                let intact = found.database.and_then(|id| snapshot.database(id)).is_some_and(|d| {
                    d.oid
                        .and_then(|oid| snapshot.server.get(&oid))
                        .is_some_and(|s| s.name == d.name.as_str() && !s.invalid)
                });
                if !intact {
                    continue;
                }
            }
            self.holder_finds_only_its_own_data(&found);
        }
    }

    fn holder_finds_only_its_own_data(&mut self, found: &Lease) {
        let id = found.id;
        let held = &self.held[&id];
        assert_eq!(found.database_name, held.lease.database_name, "the name is stable");
        assert_eq!(found.credentials, held.lease.credentials, "the login is stable");
        let (before, generation) = (held.lease.generation, found.generation);
        if generation != before {
            assert_eq!(held.resetting, Some(before), "only a reset changes the generation");
            self.expect_clean_database(found);
        }
        let Some(held) = self.held.get_mut(&id) else { return };
        held.lease.generation = generation;
        held.lease.database = found.database;
        if generation != before {
            held.resetting = None;
            held.damaged = false;
        }
        // Between the fence and the swap of a reset the holder cannot connect.
        let fenced = held.resetting.is_some();
        let (own_row, schema) = (format!("{id} {generation}"), format!("schema {}", found.fingerprint));
        let credentials = found.credentials.clone().unwrap();
        match self.backend.connect(&credentials, &found.database_name) {
            Ok(session) => {
                let found = self.backend.read(session).unwrap();
                self.backend.disconnect(session);
                assert_eq!(found.first(), Some(&schema), "a clone has the contents of its template");
                assert!(found[1..].iter().all(|row| *row == own_row), "foreign rows: {found:?}");
            }
            Err(error) => assert!(fenced, "the holder of {id} cannot connect: {error}"),
        }
    }

    /// The database equals its template and was never leased before.
    pub(crate) fn expect_clean_database(&mut self, lease: &Lease) {
        let snapshot = self.snapshot();
        let database = lease.database.and_then(|id| snapshot.database(id)).expect("a lease has a database");
        let oid = database.oid.expect("a leased database exists");
        assert!(self.granted.insert(oid), "{} was leased before", database.name);
        let databases = self.backend.databases();
        let Some(found) = databases.get(&oid) else { panic!("{} is leased but does not exist", database.name) };
        assert_eq!(found.name, lease.database_name);
        assert_eq!(found.contents, [format!("schema {}", lease.fingerprint)], "{} is dirty", found.name);
        let tampered = found.sessions_ever > 0 && lease.generation == 1;
        assert!(!tampered, "{} had a session before it was leased", found.name);
    }

    /// A grant leaves enough free databases for all earlier tickets.
    pub(crate) fn expect_ticket_order(&self, before: &Snapshot, granted: &[Lease], ticket: Option<TicketId>) {
        let mut counts = BTreeMap::new();
        for lease in granted.iter().filter(|lease| !self.held.contains_key(&lease.id)) {
            *counts.entry(lease.template).or_insert(0) += 1;
        }
        for (template, count) in counts {
            let ahead: u32 = before
                .tickets
                .iter()
                .filter(|t| t.kind == TicketKind::Acquire && t.template == template)
                .filter(|t| ticket.is_none_or(|mine| t.id < mine))
                .map(|t| t.count)
                .sum();
            let free =
                before.databases.iter().filter(|d| d.template == template && d.state == DatabaseState::Ready).count();
            assert!(
                free >= ahead as usize + count,
                "{ticket:?} was served too early: {free} free, earlier tickets need {ahead}"
            );
        }
    }

    pub(crate) fn foreign_databases_are_unchanged(&self) {
        let databases = self.backend.databases();
        for (oid, name) in &self.foreign {
            let found = databases.get(oid).map(|found| &found.name);
            assert_eq!(found, Some(name), "a foreign database was dropped or renamed");
        }
    }

    fn own_databases_have_recognised_names(&self, snapshot: &Snapshot) {
        for (oid, found) in snapshot.server.iter().filter(|(oid, found)| found.owned && !self.foreign.contains_key(oid))
        {
            let known = self.pools.iter().any(|pool| DatabaseName::recognise(pool, &found.name).is_some());
            assert!(known, "database {oid} has the unknown name {}", found.name);
        }
    }

    fn spares_are_closed(&self, snapshot: &Snapshot) {
        let databases = self.backend.databases();
        for database in snapshot.databases.iter().filter(|d| d.state == DatabaseState::Spare) {
            if let Some(found) = database.oid.and_then(|oid| databases.get(&oid)) {
                assert!(!found.allow_connections, "spare {} is open", found.name);
            }
        }
    }

    fn logins_of_ended_leases_cannot_connect(&mut self, snapshot: &Snapshot) {
        let Some(credentials) = self.pick(&self.ended_logins.clone()) else { return };
        for database in &snapshot.databases {
            let unused = matches!(
                database.state,
                DatabaseState::Spare | DatabaseState::Ready | DatabaseState::Leased | DatabaseState::Creating
            );
            let name = database.name.as_str();
            if unused && self.backend.connect(&credentials, name).is_ok() {
                panic!("{} of an ended lease can connect to {name} ({:?})", credentials.user, database.state);
            }
        }
    }
}
