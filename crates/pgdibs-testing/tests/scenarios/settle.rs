//! The end of a scenario: without faults, the pools become full, then empty, and nothing leaks.

use std::collections::BTreeSet;

use pgdibs_core::backend::Backend;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::lease::{End, LeaseId};
use pgdibs_core::name::RoleName;
use pgdibs_core::pool::Pool;
use pgdibs_core::request::{Acquired, TicketKind};
use pgdibs_core::snapshot::{Limits, Snapshot};
use pgdibs_core::template::TemplateState;
use pgdibs_testing::conformance::idle::run_until_idle;
use rand::RngExt;

use crate::{Scenario, ready};

impl Scenario {
    pub(crate) fn settle(&mut self) {
        self.log(|| "faults end".to_owned());
        self.backend.clear_faults();
        let slots_by_connections = self.chance(3).then(|| self.random.random_range(1..8));
        self.backend.set_limits(Limits { slots_by_connections, ..Limits::default() });
        for _ in 0..4 {
            self.stabilise();
            self.check();
        }
        self.no_leftovers();
        self.pools_are_full();
        self.every_ticket_is_served();
        self.dropped_pools_leave_nothing();
    }

    /// Advances a minute in which every holder renews, then reconciles until the plan is empty.
    fn stabilise(&mut self) {
        for _ in 0..16 {
            self.backend.advance(4.0);
            let now = self.backend.now();
            for (id, held) in &mut self.held {
                if ready(self.backend.renew(*id, None)).is_ok() {
                    held.renewed = now;
                }
            }
            let snapshot = self.snapshot();
            self.context(&snapshot);
        }
        self.idle();
    }

    fn idle(&mut self) {
        let snapshot = self.snapshot();
        let context = self.context(&snapshot);
        let failures = ready(run_until_idle(&self.backend, &context));
        self.log(|| format!("idle; failed steps: {failures:?}"));
    }

    /// Every database on the server has a row, every row is in a stable state, and every login is in use.
    fn no_leftovers(&self) {
        let snapshot = self.snapshot();
        for database in &snapshot.databases {
            let stable = matches!(
                database.state,
                DatabaseState::Spare | DatabaseState::Ready | DatabaseState::Leased | DatabaseState::Kept
            );
            assert!(stable, "{database:?} is not in a stable state");
            let found = database.oid.and_then(|oid| snapshot.server.get(&oid));
            assert_eq!(found.map(|found| found.name.as_str()), Some(database.name.as_str()), "{database:?}");
        }
        let known: BTreeSet<u32> = snapshot
            .databases
            .iter()
            .filter_map(|d| d.oid)
            .chain(snapshot.templates.iter().filter_map(|t| t.oid))
            .chain(self.foreign.keys().copied())
            .collect();
        for (oid, found) in &snapshot.server {
            assert!(known.contains(oid), "{} has no row", found.name);
        }
        self.every_login_has_an_owner(&snapshot);
    }

    fn every_login_has_an_owner(&self, snapshot: &Snapshot) {
        let login = |number: i64| RoleName::login(number).as_str().to_owned();
        let mut known: BTreeSet<String> = snapshot.databases.iter().map(|d| login(d.id.0)).collect();
        known.extend(snapshot.templates.iter().map(|t| login(t.id.0)));
        known.extend(snapshot.leases.iter().filter_map(|lease| Some(lease.credentials.as_ref()?.user.clone())));
        if snapshot.databases.iter().any(|d| d.state == DatabaseState::Kept) {
            known.extend(self.kept_logins.iter().cloned());
        }
        for name in self.backend.logins() {
            assert!(known.contains(&name), "login {name} is not in use");
        }
        for credentials in &self.ended_logins {
            for found in snapshot.server.values() {
                let entered = self.backend.connect(credentials, &found.name);
                assert!(entered.is_err(), "{} of an ended lease can connect to {}", credentials.user, found.name);
            }
        }
    }

    /// The current template has `warm` ready databases and `spares` spares as far as the limits allow, and no pool exceeds its limits.
    fn pools_are_full(&self) {
        let snapshot = self.snapshot();
        let count_of =
            |pool: &Pool, state| snapshot.databases.iter().filter(|d| d.pool == pool.name && d.state == state).count();
        let slots = |pool: &Pool| count_of(pool, DatabaseState::Ready) + count_of(pool, DatabaseState::Leased);
        let limit = snapshot.limits.slots_by_connections.map_or(usize::MAX, |limit| limit as usize);
        let total: usize = snapshot.pools.iter().map(slots).sum();
        let leased: usize = snapshot.pools.iter().map(|pool| count_of(pool, DatabaseState::Leased)).sum();
        assert!(total <= limit.max(leased), "{total} slots, max_connections allows {limit}, {leased} leased");
        for pool in &snapshot.pools {
            assert!(!pool.dropping || leased > 0, "{} is dropped after its last lease", pool.name);
            let max = pool.settings.max as usize;
            assert!(
                slots(pool) <= max.max(count_of(pool, DatabaseState::Leased)),
                "{} has more than {max} slots",
                pool.name
            );
            let Some(current) = snapshot.current_template(&pool.name).filter(|_| !pool.dropping) else { continue };
            let of = |state| snapshot.databases.iter().filter(|d| d.template == current.id && d.state == state).count();
            let requested = snapshot.tickets.iter().any(|ticket| ticket.kind == TicketKind::Acquire);
            let full = slots(pool) >= max || total >= limit || requested;
            let warm = pool.settings.warm as usize;
            assert!(of(DatabaseState::Ready) >= warm || full, "{} is not warm: {snapshot:#?}", pool.name);
            let reserved = snapshot.leases.iter().filter(|lease| lease.reset_to.is_some()).count();
            assert_eq!(of(DatabaseState::Spare), pool.settings.spares as usize + reserved, "spares of {}", pool.name);
        }
    }

    /// Every ticket for an existing template is served after the holders release.
    fn every_ticket_is_served(&mut self) {
        let mut rounds = 0;
        loop {
            let snapshot = self.snapshot();
            for id in self.held.keys().copied().collect::<Vec<LeaseId>>() {
                ready(self.backend.end_lease(id, End::Released, "released")).unwrap();
                self.end_held(id);
            }
            self.waiters.retain(|waiter| {
                let served = snapshot.tickets.iter().any(|t| t.id == waiter.ticket)
                    && snapshot.template(waiter.template).is_some_and(|t| t.state == TemplateState::Ready);
                if !served {
                    ready(self.backend.drop_ticket(waiter.ticket)).unwrap();
                }
                served
            });
            if self.waiters.is_empty() {
                break;
            }
            self.idle();
            self.waiters.sort_by_key(|waiter| waiter.ticket);
            let waiters = std::mem::take(&mut self.waiters);
            for waiter in waiters {
                if self.exceeds_limits(&snapshot, &waiter.acquire_requests.len()) {
                    ready(self.backend.drop_ticket(waiter.ticket)).unwrap();
                    continue;
                }
                self.acquire_with(waiter.acquire_requests, Some(waiter.ticket));
            }
            rounds += 1;
            assert!(rounds < 100, "{} ticket(s) are not served: {:#?}", self.waiters.len(), self.snapshot());
        }
    }

    fn exceeds_limits(&self, snapshot: &Snapshot, count: &usize) -> bool {
        let most = snapshot.pools.iter().map(|pool| pool.settings.max).min().unwrap_or(0);
        let most = snapshot.limits.slots_by_connections.map_or(most, |limit| limit.min(most));
        *count > most as usize
    }

    fn dropped_pools_leave_nothing(&mut self) {
        for pool in self.pools.clone() {
            // The scenario may have dropped the pool before.
            ready(self.backend.drop_pool(&pool, true)).ok();
        }
        let acquire_request = self.acquire_request();
        let refused = ready(self.backend.acquire(&[acquire_request], None));
        assert!(!matches!(refused, Ok(Acquired::Granted(_))), "a dropped pool granted a lease");
        self.stabilise();
        self.stabilise();
        let snapshot = self.snapshot();
        assert!(snapshot.pools.is_empty() && snapshot.templates.is_empty() && snapshot.databases.is_empty());
        let left: BTreeSet<u32> = snapshot.server.keys().copied().collect();
        assert_eq!(left, self.foreign.keys().copied().collect(), "only foreign databases remain");
        assert_eq!(self.backend.logins(), Vec::<String>::new(), "every login is dropped");
        self.foreign_databases_are_unchanged();
    }
}
