//! What the inhabitants of a random world do: callers, builders, holders, and hands that are not ours.

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{End, Lease, LeaseId};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::{Acquire, Acquired, Announce, ResetBegun, TemplatePut, TicketId, TicketKind};
use pgdibs_core::snapshot::Limits;
use rand::RngExt;
use uuid::Uuid;

use crate::{Builder, Held, Story, Waiter, ready};

impl Story {
    pub(crate) fn act(&mut self) {
        match self.dice.random_range(0..100) {
            0..8 => self.put_pool(),
            8..9 => self.drop_pool(),
            9..19 => self.put_template(),
            19..30 => self.go_on_building(),
            30..46 => self.acquire(),
            46..55 => self.ask_again(),
            55..64 => self.use_the_database(),
            64..73 => self.release(),
            73..79 => self.reset(),
            79..82 => self.keep_or_give_up(),
            82..86 => self.announce_or_end_a_run(),
            86..92 => self.let_time_pass(),
            92..97 => self.meddle(),
            97..98 => self.drop_template(),
            98..99 => self.change_the_limits(),
            _ => self.restart_the_server(),
        }
    }

    fn put_pool(&mut self) {
        let pool = self.pick(&self.pools.clone()).unwrap();
        let max = self.dice.random_range(1..=5);
        let patch = PoolPatch {
            warm: Some(self.dice.random_range(0..=max)),
            max: Some(max),
            spares: Some(self.dice.random_range(0..=2)),
            keep_templates: Some(self.dice.random_range(0..=3)),
            ..PoolPatch::default()
        };
        let result = ready(self.backend.put_pool(&pool, &patch));
        self.say(|| format!("put {pool} {patch:?}: {result:?}"));
    }

    fn drop_pool(&mut self) {
        let pool = self.pick(&self.pools.clone()).unwrap();
        let force = self.chance(2);
        let result = ready(self.backend.drop_pool(&pool, force));
        self.say(|| format!("drop {pool}, force {force}: {result:?}"));
        if result.is_ok() {
            let ids: Vec<LeaseId> =
                self.held.iter().filter(|(_, held)| held.lease.pool == pool).map(|(&id, _)| id).collect();
            assert!(force || ids.is_empty(), "a pool in use is dropped by force only");
            ids.into_iter().for_each(|id| self.bury(id));
        }
    }

    fn put_template(&mut self) {
        let (pool, fingerprint) =
            (self.pick(&self.pools.clone()).unwrap(), self.pick(&self.fingerprints.clone()).unwrap());
        let token = format!("token-{}", self.number());
        let result = ready(self.backend.put_template(&pool, &fingerprint, "story", &token));
        self.say(|| format!("put {pool}/{fingerprint}: {result:?}"));
        if let Ok(TemplatePut::Yours(template)) = result {
            self.builders.push(Builder { pool, fingerprint, token, template: template.id });
        }
    }

    fn go_on_building(&mut self) {
        if self.builders.is_empty() {
            return;
        }
        let index = self.dice.random_range(0..self.builders.len());
        let builder = self.builders.remove(index);
        if self.chance(8) {
            let (pool, fingerprint) = (&builder.pool, &builder.fingerprint);
            let result = ready(self.backend.abandon_build(pool, fingerprint, &builder.token, "given up"));
            return self.say(|| format!("abandon {pool}/{fingerprint}: {result:?}"));
        }
        if self.chance(20) {
            return self.say(|| format!("the builder of {}/{} falls silent", builder.pool, builder.fingerprint));
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
        self.say(|| format!("seal {}/{}: {result:?}", builder.pool, builder.fingerprint));
    }

    fn drop_template(&mut self) {
        let (pool, fingerprint) =
            (self.pick(&self.pools.clone()).unwrap(), self.pick(&self.fingerprints.clone()).unwrap());
        let result = ready(self.backend.drop_template(&pool, &fingerprint));
        self.say(|| format!("drop {pool}/{fingerprint}: {result:?}"));
    }

    pub(crate) fn acquire_request(&mut self) -> Acquire {
        let number = self.number();
        let pool = self.pick(&self.pools.clone()).unwrap();
        let fingerprint = if self.chance(2) { None } else { self.pick(&self.fingerprints.clone()) };
        let run = if self.chance(2) { Some(format!("run-{}", number % 7)) } else { None };
        Acquire {
            id: Uuid::from_u128(u128::from(number)),
            pool,
            fingerprint,
            run,
            worker: Some(format!("gw{}", self.dice.random_range(0..4))),
            alias: "default".to_owned(),
            holder: "story".to_owned(),
            exact_slot: false,
            ttl_seconds: self.dice.random_range(5..60),
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
        self.ask(acquire_requests, None);
    }

    fn ask_again(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let index = self.dice.random_range(0..self.waiters.len());
        let waiter = self.waiters.remove(index);
        if self.chance(6) {
            ready(self.backend.drop_ticket(waiter.ticket)).unwrap();
            return self.say(|| format!("{:?} gives up", waiter.ticket));
        }
        self.ask(waiter.acquire_requests, Some(waiter.ticket));
    }

    /// Asks, and notes what became of it; whoever must wait may take a ticket.
    pub(crate) fn ask(&mut self, acquire_requests: Vec<Acquire>, ticket: Option<TicketId>) {
        let before = self.snapshot();
        let result = ready(self.backend.acquire(&acquire_requests, ticket));
        self.say(|| format!("acquire {acquire_requests:?} with {ticket:?}: {result:?}"));
        match result {
            Ok(Acquired::Granted(leases)) => {
                assert_eq!(leases.len(), acquire_requests.len(), "all of them or none");
                self.expect_a_fair_turn(&before, &leases, ticket);
                for lease in leases {
                    self.receive(lease);
                }
                if let Some(ticket) = ticket {
                    ready(self.backend.drop_ticket(ticket)).unwrap();
                }
            }
            Ok(Acquired::Existing(leases)) => {
                assert!(leases.iter().all(|lease| self.held.contains_key(&lease.id)), "it was granted before");
                if let Some(ticket) = ticket {
                    ready(self.backend.drop_ticket(ticket)).unwrap();
                }
            }
            Ok(Acquired::Wait(wanted)) => match ticket {
                Some(ticket)
                    if self.snapshot().tickets.iter().any(|t| t.id == ticket && t.template == wanted.template) =>
                {
                    self.waiters.push(Waiter { ticket, acquire_requests, template: wanted.template });
                }
                Some(ticket) => ready(self.backend.drop_ticket(ticket)).unwrap(),
                None if self.chance(3) => {}
                None => {
                    let count = u32::try_from(acquire_requests.len()).unwrap();
                    let ticket = ready(self.backend.take_ticket(&wanted, count, TicketKind::Acquire)).unwrap();
                    self.waiters.push(Waiter { ticket, acquire_requests, template: wanted.template });
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
        self.expect_a_fresh_database(&lease);
        let renewed = self.backend.now();
        let id = lease.id;
        self.held.insert(id, Held { lease, damaged: false, resetting: None, renewed, session: None });
    }

    /// The holder knows that its lease is over.
    pub(crate) fn bury(&mut self, id: LeaseId) {
        if let Some(held) = self.held.remove(&id) {
            self.dead.extend(held.lease.credentials);
        }
    }

    fn one_of_mine(&mut self) -> Option<LeaseId> {
        self.pick(&self.held.keys().copied().collect::<Vec<_>>())
    }

    fn use_the_database(&mut self) {
        let Some(id) = self.one_of_mine() else { return };
        let renew = self.chance(2);
        let ttl = self.chance(4).then(|| self.dice.random_range(5..60));
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
            let mark = format!("{id} {}", held.lease.generation);
            self.backend.write(session, &mark).unwrap();
            self.say(|| format!("{mark} writes"));
        }
    }

    fn release(&mut self) {
        let Some(id) = self.one_of_mine() else { return };
        let result = ready(self.backend.end_lease(id, End::Released, "released"));
        self.say(|| format!("release {id}: {result:?}"));
        self.bury(id);
    }

    fn reset(&mut self) {
        let Some(id) = self.one_of_mine() else { return };
        let now = self.backend.now();
        let Some(held) = self.held.get_mut(&id) else { return };
        let generation = held.lease.generation;
        let result = ready(self.backend.begin_reset(id, Some(generation), None));
        if let Ok(ResetBegun::Reserved { generation: next }) = result {
            assert_eq!(next, generation + 1);
            // To ask again for a reset that is under way renews nothing.
            if held.resetting.replace(generation) != Some(generation) {
                held.renewed = now;
            }
        }
        self.say(|| format!("reset {id} of generation {generation}: {result:?}"));
    }

    fn keep_or_give_up(&mut self) {
        if self.chance(3) {
            let names: Vec<String> = self.snapshot().databases.iter().map(|d| d.name.as_str().to_owned()).collect();
            if let Some(name) = self.pick(&names) {
                let result = ready(self.backend.drop_kept(&name));
                self.say(|| format!("give up {name}: {result:?}"));
            }
            return;
        }
        let Some(id) = self.one_of_mine() else { return };
        let result = ready(self.backend.keep(id, self.dice.random_range(1..100), "story"));
        self.say(|| format!("keep {id}: {result:?}"));
        if let Ok(kept) = result {
            self.kept_logins.insert(kept.credentials.user);
        }
    }

    fn announce_or_end_a_run(&mut self) {
        let run = format!("run-{}", self.number() % 7);
        if self.chance(3) {
            let count = ready(self.backend.end_run(&run)).unwrap();
            self.say(|| format!("end of {run}: {count}"));
            let ids: Vec<LeaseId> =
                self.held.iter().filter(|(_, held)| held.lease.run.as_ref() == Some(&run)).map(|(&id, _)| id).collect();
            return ids.into_iter().for_each(|id| self.bury(id));
        }
        let acquire_request = self.acquire_request();
        let (workers, aliases) = (self.dice.random_range(1..=3), self.dice.random_range(1..=2));
        let announce =
            Announce { run, pool: acquire_request.pool, fingerprint: acquire_request.fingerprint, workers, aliases };
        let result = ready(self.backend.announce(&announce));
        self.say(|| format!("{announce:?}: {result:?}"));
    }

    /// Seconds pass, in steps that the watches follow or in one gap that they must notice.
    pub(crate) fn let_time_pass(&mut self) {
        let gap = self.chance(5);
        let steps = if gap { 1 } else { self.dice.random_range(1..12) };
        for _ in 0..steps {
            self.backend.advance(if gap { 30.0 } else { 4.0 });
            let snapshot = self.snapshot();
            self.context(&snapshot);
        }
        self.say(|| format!("time has passed, gap: {gap}"));
    }

    /// A hand that is not ours: drops, renames, looks in, takes a name.
    fn meddle(&mut self) {
        let mine: Vec<(u32, String)> = self
            .backend
            .databases()
            .into_iter()
            .filter(|(oid, _)| !self.foreign.contains_key(oid))
            .map(|(oid, found)| (oid, found.name))
            .collect();
        let number = self.number();
        let Some((oid, name)) = self.pick(&mine) else { return };
        let kind = self.dice.random_range(0..8);
        match kind {
            0 => self.backend.drop_by_hand(&name),
            1 => self.backend.interrupt_a_drop_by_hand(&name),
            2 => {
                let theirs = format!("theirs_{number}");
                if self.backend.rename_by_hand(&name, &theirs).is_ok() {
                    self.foreign.insert(oid, theirs);
                }
            }
            3 => {
                let pool = self.pick(&self.pools.clone()).unwrap();
                let kind = self.pick(&["gw", "spare_"]).unwrap();
                let taken = format!("{pool}_{kind}{}", self.dice.random_range(0..40));
                if let Ok(oid) = self.backend.create_by_hand(&taken) {
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
        self.say(|| format!("a hand does {kind} to {name}"));
        if kind <= 2 {
            let row = self.snapshot().databases.into_iter().find(|d| d.oid == Some(oid)).map(|d| d.id);
            for held in self.held.values_mut() {
                let lease = ready(self.backend.lease(held.lease.id)).unwrap();
                held.damaged |= lease.database.is_some() && lease.database == row;
            }
        }
    }

    fn change_the_limits(&mut self) {
        let limits = Limits {
            slots_by_connections: self.chance(2).then(|| self.dice.random_range(1..6)),
            lock_entries: None,
            free_disk_bytes: Some(self.dice.random_range(0..20)),
            disk_floor_bytes: 5,
        };
        self.say(|| format!("{limits:?}"));
        self.backend.set_limits(limits);
    }

    fn restart_the_server(&mut self) {
        self.say(|| "the server restarts".to_owned());
        self.backend.restart_server();
    }
}
