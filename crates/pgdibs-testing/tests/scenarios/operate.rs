//! The operations of a scenario: callers, builders, holders, and external changes.

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{End, Lease, LeaseId};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::{Acquire, Acquired, Announce, ResetBegun, TemplatePut, TicketId, TicketKind};
use pgdibs_core::snapshot::Limits;
use rand::RngExt;
use uuid::Uuid;

use crate::{Builder, HeldLease, Scenario, Waiter, ready};

impl Scenario {
    pub(crate) fn operate(&mut self) {
        match self.random.random_range(0..100) {
            0..8 => self.put_pool(),
            8..9 => self.drop_pool(),
            9..19 => self.put_template(),
            19..30 => self.continue_build(),
            30..46 => self.acquire(),
            46..55 => self.retry_acquire(),
            55..64 => self.use_database(),
            64..73 => self.release(),
            73..79 => self.reset(),
            79..82 => self.keep_or_drop_kept(),
            82..86 => self.announce_or_end_run(),
            86..92 => self.advance_time(),
            92..97 => self.change_externally(),
            97..98 => self.drop_template(),
            98..99 => self.change_limits(),
            _ => self.restart_server(),
        }
    }

    fn put_pool(&mut self) {
        let pool = self.pick(&self.pools.clone()).unwrap();
        let max = self.random.random_range(1..=5);
        let patch = PoolPatch {
            warm: Some(self.random.random_range(0..=max)),
            max: Some(max),
            spares: Some(self.random.random_range(0..=2)),
            keep_templates: Some(self.random.random_range(0..=3)),
            ..PoolPatch::default()
        };
        let result = ready(self.backend.put_pool(&pool, &patch));
        self.log(|| format!("put {pool} {patch:?}: {result:?}"));
    }

    fn drop_pool(&mut self) {
        let pool = self.pick(&self.pools.clone()).unwrap();
        let force = self.chance(2);
        let result = ready(self.backend.drop_pool(&pool, force));
        self.log(|| format!("drop {pool}, force {force}: {result:?}"));
        if result.is_ok() {
            let ids: Vec<LeaseId> =
                self.held.iter().filter(|(_, held)| held.lease.pool == pool).map(|(&id, _)| id).collect();
            assert!(force || ids.is_empty(), "a pool in use was dropped without force");
            ids.into_iter().for_each(|id| self.end_held(id));
        }
    }

    fn put_template(&mut self) {
        let (pool, fingerprint) =
            (self.pick(&self.pools.clone()).unwrap(), self.pick(&self.fingerprints.clone()).unwrap());
        let token = format!("token-{}", self.number());
        let result = ready(self.backend.put_template(&pool, &fingerprint, "scenario", &token));
        self.log(|| format!("put {pool}/{fingerprint}: {result:?}"));
        if let Ok(TemplatePut::Yours(template)) = result {
            self.builders.push(Builder { pool, fingerprint, token, template: template.id });
        }
    }

    fn continue_build(&mut self) {
        if self.builders.is_empty() {
            return;
        }
        let index = self.random.random_range(0..self.builders.len());
        let builder = self.builders.remove(index);
        if self.chance(8) {
            let (pool, fingerprint) = (&builder.pool, &builder.fingerprint);
            let result = ready(self.backend.abandon_build(pool, fingerprint, &builder.token, "abandoned"));
            return self.log(|| format!("abandon {pool}/{fingerprint}: {result:?}"));
        }
        if self.chance(20) {
            return self.log(|| format!("the builder of {}/{} stops", builder.pool, builder.fingerprint));
        }
        let place = match ready(self.backend.build_place(builder.template, &builder.token)) {
            Ok(Some(place)) => place,
            Ok(None) => return self.builders.push(builder),
            Err(_) => return,
        };
        let name = place.database.as_str();
        let Ok(session) = self.backend.connect(&place.credentials, name) else {
            return;
        };
        let schema = format!("schema {}", builder.fingerprint);
        if self.backend.read(session).is_ok_and(|found| found.is_empty()) {
            self.backend.write(session, &schema).unwrap();
        }
        self.backend.disconnect(session);
        let result = ready(self.backend.request_seal(&builder.pool, &builder.fingerprint, &builder.token));
        self.log(|| format!("seal {}/{}: {result:?}", builder.pool, builder.fingerprint));
    }

    fn drop_template(&mut self) {
        let (pool, fingerprint) =
            (self.pick(&self.pools.clone()).unwrap(), self.pick(&self.fingerprints.clone()).unwrap());
        let result = ready(self.backend.drop_template(&pool, &fingerprint));
        self.log(|| format!("drop {pool}/{fingerprint}: {result:?}"));
    }

    pub(crate) fn acquire_request(&mut self) -> Acquire {
        let number = self.number();
        let pool = self.pick(&self.pools.clone()).unwrap();
        let named = self.pick(&self.fingerprints.clone()).unwrap();
        let run = if self.chance(2) { Some(format!("run-{}", number % 7)) } else { None };
        let is_named = self.chance(2);
        Acquire {
            id: Uuid::from_u128(u128::from(number)),
            pool,
            fingerprint_named: is_named,
            fingerprint: is_named.then_some(named),
            run,
            worker: Some(format!("gw{}", self.random.random_range(0..4))),
            alias: "default".to_owned(),
            holder: "scenario".to_owned(),
            exact_slot: false,
            ttl_seconds: self.random.random_range(5..60),
        }
    }

    fn acquire(&mut self) {
        let first = self.acquire_request();
        let mut acquire_requests = vec![first.clone()];
        while self.chance(4) {
            let again = self.acquire_request();
            let worker = Some(format!("gw{}", 4 + acquire_requests.len()));
            acquire_requests.push(Acquire { id: again.id, worker, ..first.clone() });
        }
        self.acquire_with(acquire_requests, None);
    }

    fn retry_acquire(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let index = self.random.random_range(0..self.waiters.len());
        let waiter = self.waiters.remove(index);
        if self.chance(6) {
            ready(self.backend.drop_ticket(waiter.ticket)).unwrap();
            return self.log(|| format!("drop {:?}", waiter.ticket));
        }
        self.acquire_with(waiter.acquire_requests, Some(waiter.ticket));
    }

    /// Acquires and records the outcome; a request that must wait may take a ticket.
    pub(crate) fn acquire_with(&mut self, acquire_requests: Vec<Acquire>, ticket: Option<TicketId>) {
        let before = self.snapshot();
        let result = ready(self.backend.acquire(&acquire_requests, ticket));
        self.log(|| format!("acquire {acquire_requests:?} with {ticket:?}: {result:?}"));
        match result {
            Ok(Acquired::Granted(leases)) => {
                assert_eq!(leases.len(), acquire_requests.len(), "all of them or none");
                self.expect_ticket_order(&before, &leases, ticket);
                for lease in leases {
                    self.receive(lease);
                }
                if let Some(ticket) = ticket {
                    ready(self.backend.drop_ticket(ticket)).unwrap();
                }
            }
            Ok(Acquired::Existing(leases)) => {
                assert!(
                    leases.iter().all(|lease| self.held.contains_key(&lease.id)),
                    "an existing lease was never granted"
                );
                if let Some(ticket) = ticket {
                    ready(self.backend.drop_ticket(ticket)).unwrap();
                }
            }
            Ok(Acquired::Wait(target)) => match ticket {
                Some(ticket)
                    if self.snapshot().tickets.iter().any(|t| t.id == ticket && t.template == target.template) =>
                {
                    self.waiters.push(Waiter { ticket, acquire_requests, template: target.template });
                }
                Some(ticket) => ready(self.backend.drop_ticket(ticket)).unwrap(),
                None if self.chance(3) => {}
                None => {
                    let count = u32::try_from(acquire_requests.len()).unwrap();
                    // As the service does: a caller that waits does not follow a later `PUT`.
                    let chosen = |asked: Acquire| Acquire {
                        fingerprint: asked.fingerprint.clone().or_else(|| Some(target.fingerprint.clone())),
                        ..asked
                    };
                    let acquire_requests = acquire_requests.into_iter().map(chosen).collect();
                    let ticket = ready(self.backend.take_ticket(
                        &target,
                        count,
                        TicketKind::Acquire,
                        &pgdibs_core::request::TicketHolder::default(),
                    ))
                    .unwrap();
                    self.waiters.push(Waiter { ticket, acquire_requests, template: target.template });
                }
            },
            Err(Error::Internal(text)) => panic!("{text}"),
            Err(_) => {
                if let Some(ticket) = ticket {
                    ready(self.backend.drop_ticket(ticket)).unwrap();
                }
            }
        }
    }

    fn receive(&mut self, lease: Lease) {
        if self.held.contains_key(&lease.id) {
            return;
        }
        self.expect_clean_database(&lease);
        let renewed = self.backend.now();
        let id = lease.id;
        self.held.insert(id, HeldLease { lease, damaged: false, resetting: None, renewed, session: None });
    }

    /// Removes an ended lease from those of its holder.
    pub(crate) fn end_held(&mut self, id: LeaseId) {
        if let Some(held) = self.held.remove(&id) {
            self.ended_logins.extend(held.lease.credentials);
        }
    }

    fn pick_held(&mut self) -> Option<LeaseId> {
        self.pick(&self.held.keys().copied().collect::<Vec<_>>())
    }

    fn use_database(&mut self) {
        let Some(id) = self.pick_held() else { return };
        let renew = self.chance(2);
        let ttl = self.chance(4).then(|| self.random.random_range(5..60));
        let leave = self.chance(2);
        let now = self.backend.now();
        let Some(held) = self.held.get_mut(&id) else { return };
        if renew {
            match ready(self.backend.renew(id, ttl)) {
                Ok(lease) => {
                    held.renewed = now;
                    held.lease.ttl_seconds = lease.ttl_seconds;
                }
                Err(_) => return,
            }
        }
        if let Some(session) = held.session.take_if(|_| leave) {
            self.backend.disconnect(session);
        }
        let alive = held.session.filter(|&session| self.backend.is_connected(session));
        let credentials = held.lease.credentials.clone().unwrap();
        let name = held.lease.database_name.clone();
        let session = alive.or_else(|| self.backend.connect(&credentials, &name).ok());
        held.session = session;
        if let Some(session) = session {
            let row = format!("{id} {}", held.lease.generation);
            self.backend.write(session, &row).unwrap();
            self.log(|| format!("write {row}"));
        }
    }

    fn release(&mut self) {
        let Some(id) = self.pick_held() else { return };
        let result = ready(self.backend.end_lease(id, End::Released, "released"));
        self.log(|| format!("release {id}: {result:?}"));
        self.end_held(id);
    }

    fn reset(&mut self) {
        let Some(id) = self.pick_held() else { return };
        let now = self.backend.now();
        let Some(held) = self.held.get_mut(&id) else { return };
        let generation = held.lease.generation;
        let result = ready(self.backend.begin_reset(id, Some(generation), None));
        if let Ok(ResetBegun::Reserved { generation: next }) = result {
            assert_eq!(next, generation + 1);
            // A repeated request for a reset in progress does not renew.
            if held.resetting.replace(generation) != Some(generation) {
                held.renewed = now;
            }
        }
        self.log(|| format!("reset {id} of generation {generation}: {result:?}"));
    }

    fn keep_or_drop_kept(&mut self) {
        if self.chance(3) {
            let names: Vec<String> = self.snapshot().databases.iter().map(|d| d.name.as_str().to_owned()).collect();
            if let Some(name) = self.pick(&names) {
                let result = ready(self.backend.drop_kept(&name));
                self.log(|| format!("drop kept {name}: {result:?}"));
            }
            return;
        }
        let Some(id) = self.pick_held() else { return };
        let result = ready(self.backend.keep(id, self.random.random_range(1..100), "scenario"));
        self.log(|| format!("keep {id}: {result:?}"));
        if let Ok(kept) = result {
            self.kept_logins.insert(kept.credentials.user);
        }
    }

    fn announce_or_end_run(&mut self) {
        let run = format!("run-{}", self.number() % 7);
        if self.chance(3) {
            let count = ready(self.backend.end_run(&run)).unwrap();
            self.log(|| format!("end {run}: {count}"));
            let ids: Vec<LeaseId> =
                self.held.iter().filter(|(_, held)| held.lease.run.as_ref() == Some(&run)).map(|(&id, _)| id).collect();
            return ids.into_iter().for_each(|id| self.end_held(id));
        }
        let acquire_request = self.acquire_request();
        let (workers, aliases) = (self.random.random_range(1..=3), self.random.random_range(1..=2));
        let announce =
            Announce { run, pool: acquire_request.pool, fingerprint: acquire_request.fingerprint, workers, aliases };
        let result = ready(self.backend.announce(&announce));
        self.log(|| format!("{announce:?}: {result:?}"));
    }

    /// Advances the clock in small steps, or in one gap that the watches must detect.
    pub(crate) fn advance_time(&mut self) {
        let gap = self.chance(5);
        let steps = if gap { 1 } else { self.random.random_range(1..12) };
        for _ in 0..steps {
            self.backend.advance(if gap { 30.0 } else { 4.0 });
            let snapshot = self.snapshot();
            self.context(&snapshot);
        }
        self.log(|| format!("advance the clock, gap: {gap}"));
    }

    /// Drops, renames or enters a database, or creates a foreign one, outside pgdibs.
    fn change_externally(&mut self) {
        let own: Vec<(u32, String)> = self
            .backend
            .databases()
            .into_iter()
            .filter(|(oid, _)| !self.foreign.contains_key(oid))
            .map(|(oid, found)| (oid, found.name))
            .collect();
        let number = self.number();
        let Some((oid, name)) = self.pick(&own) else { return };
        let kind = self.random.random_range(0..8);
        match kind {
            0 => self.backend.drop_externally(&name),
            1 => self.backend.interrupt_drop_externally(&name),
            2 => {
                let foreign = format!("foreign_{number}");
                if self.backend.rename_externally(&name, &foreign).is_ok() {
                    self.foreign.insert(oid, foreign);
                }
            }
            3 => {
                let pool = self.pick(&self.pools.clone()).unwrap();
                let kind = self.pick(&["gw", "spare_"]).unwrap();
                let taken = format!("{pool}_{kind}{}", self.random.random_range(0..40));
                if let Ok(oid) = self.backend.create_externally(&taken) {
                    self.foreign.insert(oid, taken);
                }
            }
            _ => {
                if let Ok(session) = self.backend.connect_as_superuser(&name)
                    && self.chance(2)
                {
                    self.backend.disconnect(session);
                }
            }
        }
        self.log(|| format!("external change {kind} of {name}"));
        if kind <= 2 {
            let row = self.snapshot().databases.into_iter().find(|d| d.oid == Some(oid)).map(|d| d.id);
            for held in self.held.values_mut() {
                let lease = ready(self.backend.lease(held.lease.id)).unwrap();
                held.damaged |= lease.database.is_some() && lease.database == row;
            }
        }
    }

    fn change_limits(&mut self) {
        let limits = Limits {
            slots_by_connections: self.chance(2).then(|| self.random.random_range(1..6)),
            lock_entries: None,
            free_disk_bytes: Some(self.random.random_range(0..20)),
            disk_floor_bytes: 5,
            clones_files: false,
        };
        self.log(|| format!("{limits:?}"));
        self.backend.set_limits(limits);
    }

    fn restart_server(&mut self) {
        self.log(|| "restart the server".to_owned());
        self.backend.restart_server();
    }
}
