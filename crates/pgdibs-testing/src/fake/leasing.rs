//! Requests for leases, tickets and runs; each is one transaction on the fake catalog.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{DatabaseRow, LeaseRow, RunRow, State, TemplateRow, TicketRow, login_of, timestamp};
use super::server::FakeLogin;
use pgdibs_core::database::{Database, DatabaseId, DatabaseState};
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Credentials, Lease, LeaseId, LeaseState};
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, preferred_slot, shown};
use pgdibs_core::request::{
    Acquire, Acquired, Announce, Kept, ResetBegun, TargetTemplate, TicketHolder, TicketId, TicketKind,
};
use pgdibs_core::template::{TemplateId, TemplateState};

/// An announcement expires this long after its last `PUT` unless the run has leases.
pub(super) const ANNOUNCEMENT_SECONDS: f64 = 60.0;

#[allow(clippy::cast_precision_loss, reason = "seconds of a test's clock")]
fn seconds(count: u64) -> f64 {
    count as f64
}

impl State {
    pub(super) fn acquire(
        &mut self,
        acquire_requests: &[Acquire],
        ticket: Option<TicketId>,
    ) -> Result<Acquired, Error> {
        let existing: Vec<Option<Lease>> =
            acquire_requests.iter().map(|acquire_request| self.held_by(acquire_request)).collect::<Result<_, _>>()?;
        if existing.iter().all(Option::is_some) {
            return Ok(Acquired::Existing(existing.into_iter().flatten().collect()));
        }
        let mut targets = Vec::with_capacity(acquire_requests.len());
        for (acquire_request, found) in acquire_requests.iter().zip(&existing) {
            targets.push(if found.is_some() { None } else { Some(self.target(acquire_request)?) });
        }
        self.check_capacity(acquire_requests)?;

        let mut groups: BTreeMap<TemplateId, (TargetTemplate, u32)> = BTreeMap::new();
        for target in targets.iter().flatten() {
            groups.entry(target.template).or_insert_with(|| (target.clone(), 0)).1 += 1;
        }
        for (target, count) in groups.values() {
            let ready = u32::try_from(self.grantable(target.template).len()).unwrap_or(u32::MAX);
            let ahead = self.ahead(target.template, TicketKind::Acquire, ticket);
            if target.building || ready < ahead.saturating_add(*count) {
                return Ok(Acquired::Wait(target.clone()));
            }
        }
        let chosen = self.choose(acquire_requests, &targets);
        if let Some(missing) =
            targets.iter().zip(&chosen).find_map(|(target, found)| target.as_ref().filter(|_| found.is_none()))
        {
            return Ok(Acquired::Wait(missing.clone()));
        }
        let mut leases = Vec::with_capacity(acquire_requests.len());
        for ((acquire_request, found), choice) in acquire_requests.iter().zip(existing).zip(chosen) {
            match (found, choice) {
                (Some(lease), _) => leases.push(lease),
                (None, Some(database)) => leases.push(self.grant(acquire_request, database)?),
                (None, None) => return Err(Error::Internal("fewer ready databases than counted".to_owned())),
            }
        }
        if let Some(ticket) = ticket {
            self.tickets.remove(&ticket);
        }
        Ok(Acquired::Granted(leases))
    }

    /// The live lease with the key of this request.
    fn held_by(&self, acquire_request: &Acquire) -> Result<Option<Lease>, Error> {
        self.pool(&acquire_request.pool)?;
        if let Some(run) = &acquire_request.run
            && self.runs.get(run).is_some_and(|row| row.ended)
        {
            return Err(Error::RunEnded(run.clone()));
        }
        let found = self.live().find(|lease| {
            lease.id == acquire_request.id
                || (acquire_request.run.is_some()
                    && lease.pool == acquire_request.pool
                    && lease.run == acquire_request.run
                    && lease.worker == acquire_request.worker
                    && lease.alias == acquire_request.alias)
        });
        let named = acquire_request.fingerprint.as_ref().filter(|_| acquire_request.fingerprint_named);
        match (found, named) {
            (Some(lease), Some(fingerprint)) if lease.fingerprint != *fingerprint => {
                Err(Error::LeaseConflict(format!(
                    "lease {} with the same run, worker and alias is of template \"{}\"; release it before you acquire one of \"{fingerprint}\"",
                    lease.id, lease.fingerprint
                )))
            }
            (found, _) => Ok(found.cloned()),
        }
    }

    pub(super) fn choose_template(&self, pool: &PoolName, run: Option<&str>) -> Result<Fingerprint, Error> {
        let pool = self.pool(pool)?;
        let announced = run.and_then(|run| self.runs.get(run)).and_then(|row| match &row.announced {
            Some((name, fingerprint, _)) if *name == pool.name => fingerprint.clone(),
            _ => None,
        });
        let leased = || {
            let leases = self.leases.values().map(|row| &row.seen);
            let of_run = leases.filter(|lease| run.is_some() && lease.run.as_deref() == run && lease.pool == pool.name);
            of_run.max_by_key(|lease| (lease.acquired_at, lease.id)).map(|lease| lease.fingerprint.clone())
        };
        if let Some(fingerprint) = announced.or_else(leased) {
            return Ok(fingerprint);
        }
        let current = self
            .current_template(pool)
            .ok_or_else(|| Error::TemplateNotFound(format!("pool \"{}\" has no template; PUT it first", pool.name)))?;
        let current = &current.seen;
        let announced: BTreeSet<Fingerprint> = self
            .announced_runs()
            .into_iter()
            .filter(|announced| announced.pool == pool.name)
            .filter_map(|announced| announced.fingerprint)
            .collect();
        let is_in_use = |row: &&TemplateRow| {
            let is_leased = |d: &DatabaseRow| d.seen.template == row.seen.id && d.seen.state == DatabaseState::Leased;
            let waits = |t: &TicketRow| t.template == row.seen.id && t.kind != TicketKind::Reset;
            self.databases.values().any(is_leased)
                || self.tickets.values().any(waits)
                || announced.contains(&row.seen.fingerprint)
        };
        let others = self.templates.values().filter(|row| {
            row.seen.pool == pool.name
                && row.seen.id != current.id
                && matches!(row.seen.state, TemplateState::Building | TemplateState::Ready)
        });
        let others: Vec<String> = others.filter(is_in_use).map(|row| row.seen.fingerprint.to_string()).collect();
        if others.is_empty() || pool.sourced {
            return Ok(current.fingerprint.clone());
        }
        Err(Error::TemplateAmbiguous { pool: pool.name.to_string(), current: current.fingerprint.to_string(), others })
    }

    fn target(&self, acquire_request: &Acquire) -> Result<TargetTemplate, Error> {
        let pool = &acquire_request.pool;
        let fingerprint = match &acquire_request.fingerprint {
            Some(fingerprint) => fingerprint.clone(),
            None => self.choose_template(pool, acquire_request.run.as_deref())?,
        };
        let row = self.current(pool, &fingerprint).ok_or_else(|| {
            Error::TemplateNotFound(format!("pool \"{pool}\" has no template \"{fingerprint}\"; PUT it first"))
        })?;
        Ok(TargetTemplate {
            pool: pool.clone(),
            template: row.seen.id,
            fingerprint: row.seen.fingerprint.clone(),
            building: row.seen.state == TemplateState::Building,
        })
    }

    fn check_capacity(&self, acquire_requests: &[Acquire]) -> Result<(), Error> {
        let mut requested: BTreeMap<_, u32> = BTreeMap::new();
        for acquire_request in acquire_requests {
            *requested.entry(&acquire_request.pool).or_default() += 1;
        }
        for (pool, count) in requested {
            self.check_limit(pool, count)?;
        }
        Ok(())
    }

    fn check_limit(&self, pool: &PoolName, count: u32) -> Result<(), Error> {
        let max = self.pool(pool)?.settings.max;
        if count > max {
            return Err(Error::CapacityExceeded(format!(
                "{count} databases at once do not fit into pool \"{pool}\", whose max is {max}; raise max"
            )));
        }
        if let Some(limit) = self.limits.slots_by_connections.filter(|&limit| count > limit) {
            return Err(Error::CapacityExceeded(format!(
                "{count} databases at once exceed the {limit} that max_connections allows; raise max_connections"
            )));
        }
        Ok(())
    }

    fn grantable(&self, template: TemplateId) -> Vec<&Database> {
        let mut found: Vec<&Database> = self
            .databases
            .values()
            .map(|row| &row.seen)
            .filter(|d| d.template == template && d.state == DatabaseState::Ready && self.is_untouched(d))
            .collect();
        found.sort_by_key(|d| d.slot);
        found
    }

    /// How many databases the tickets before this one need; without a ticket, all tickets.
    fn ahead(&self, template: TemplateId, kind: TicketKind, ticket: Option<TicketId>) -> u32 {
        let place = ticket.filter(|id| self.tickets.contains_key(id));
        self.tickets
            .iter()
            .filter(|(id, row)| {
                row.template == template
                    && (row.kind == TicketKind::Reset) == (kind == TicketKind::Reset)
                    && place.is_none_or(|place| **id < place)
            })
            .map(|(_, row)| row.count)
            .sum()
    }

    /// A database for each request: first the preferred slots of workers, then the lowest slots.
    fn choose(&self, acquire_requests: &[Acquire], targets: &[Option<TargetTemplate>]) -> Vec<Option<DatabaseId>> {
        let mut chosen = vec![None; acquire_requests.len()];
        let mut taken = BTreeSet::new();
        for preferred_only in [true, false] {
            for (index, (acquire_request, target)) in acquire_requests.iter().zip(targets).enumerate() {
                let Some(target) = target.as_ref().filter(|_| chosen[index].is_none()) else { continue };
                let preferred = acquire_request.worker.as_deref().and_then(preferred_slot);
                let found = self
                    .grantable(target.template)
                    .into_iter()
                    .filter(|d| !taken.contains(&d.id))
                    .find(|d| {
                        !(preferred_only || acquire_request.exact_slot) || (preferred.is_some() && d.slot == preferred)
                    })
                    .map(|d| d.id);
                taken.extend(found);
                chosen[index] = found;
            }
        }
        chosen
    }

    fn grant(&mut self, acquire_request: &Acquire, database: DatabaseId) -> Result<Lease, Error> {
        let now = self.now;
        let stamp = self.timestamp();
        let Some(row) = self.databases.get_mut(&database) else {
            return Err(Error::Internal("the chosen database no longer exists".to_owned()));
        };
        row.seen.state = DatabaseState::Leased;
        let Some(template) = self.templates.get_mut(&row.seen.template) else {
            return Err(Error::Internal("a database without its template".to_owned()));
        };
        template.last_used = now;
        template.seen.leased = true;
        template.seen.last_used_at = stamp;
        self.pools_used.insert(acquire_request.pool.clone(), now);
        let lease = Lease {
            id: acquire_request.id,
            state: LeaseState::Live,
            pool: acquire_request.pool.clone(),
            fingerprint: template.seen.fingerprint.clone(),
            template: template.seen.id,
            database: Some(database),
            database_name: row.seen.name.as_str().to_owned(),
            slot: row.seen.slot.unwrap_or_default(),
            credentials: Some(Credentials { user: login_of(database.0), password: row.password.clone() }),
            run: acquire_request.run.clone(),
            worker: acquire_request.worker.clone(),
            alias: acquire_request.alias.clone(),
            holder: acquire_request.holder.clone(),
            generation: 1,
            ttl_seconds: acquire_request.ttl_seconds,
            renewals: 0,
            reset_to: None,
            acquired_at: stamp,
            expires_at: timestamp(now + seconds(acquire_request.ttl_seconds)),
            ended_at: None,
            ended_reason: None,
        };
        self.leases.insert(acquire_request.id, LeaseRow { seen: lease.clone(), ended: None });
        Ok(lease)
    }

    pub(super) fn take_ticket(
        &mut self,
        target: &TargetTemplate,
        count: u32,
        kind: TicketKind,
        holder: &TicketHolder,
    ) -> TicketId {
        let id = TicketId(self.next_number());
        let (pool, holder) = (target.pool.clone(), holder.clone());
        let row = TicketRow { pool, template: target.template, count, kind, holder, since: self.now };
        self.tickets.insert(id, row);
        id
    }

    pub(super) fn renew(&mut self, id: LeaseId, ttl_seconds: Option<u64>) -> Result<Lease, Error> {
        self.live_lease(id)?;
        let now = self.now;
        let Some(row) = self.leases.get_mut(&id) else { return Err(Error::LeaseNotFound(id.to_string())) };
        row.seen.ttl_seconds = ttl_seconds.unwrap_or(row.seen.ttl_seconds);
        row.seen.renewals += 1;
        row.seen.expires_at = timestamp(now + seconds(row.seen.ttl_seconds));
        Ok(row.seen.clone())
    }

    pub(super) fn begin_reset(
        &mut self,
        id: LeaseId,
        leave: Option<u32>,
        ticket: Option<TicketId>,
    ) -> Result<ResetBegun, Error> {
        let lease = self.live_lease(id)?.clone();
        if leave.is_some_and(|leave| leave < lease.generation) {
            return Ok(ResetBegun::Already(Box::new(lease)));
        }
        if lease.reset_to.is_some() {
            return Ok(ResetBegun::Reserved { generation: lease.generation + 1 });
        }
        let reserved = self.reserved();
        let ahead = self.ahead(lease.template, TicketKind::Reset, ticket) as usize;
        let spares: Vec<DatabaseId> = self
            .databases
            .values()
            .filter(|row| {
                row.seen.template == lease.template
                    && row.seen.state == DatabaseState::Spare
                    && row.retry_at <= self.now
                    && !reserved.contains(&row.seen.id)
                    && self.is_untouched(&row.seen)
            })
            .map(|row| row.seen.id)
            .collect();
        if spares.len() <= ahead {
            return Ok(ResetBegun::Wait(TargetTemplate {
                pool: lease.pool,
                template: lease.template,
                fingerprint: lease.fingerprint,
                building: false,
            }));
        }
        if let Some(ticket) = ticket {
            self.tickets.remove(&ticket);
        }
        self.renew(id, None)?;
        if let Some(row) = self.leases.get_mut(&id) {
            row.seen.reset_to = spares.first().copied();
        }
        Ok(ResetBegun::Reserved { generation: lease.generation + 1 })
    }

    pub(super) fn keep(&mut self, id: LeaseId, keep_seconds: u64, reason: &str) -> Result<Kept, Error> {
        let lease = self.live_lease(id)?.clone();
        let number = self.next_number();
        let until = timestamp(self.now + seconds(keep_seconds));
        let row = lease
            .database
            .and_then(|database| self.databases.get_mut(&database))
            .ok_or_else(|| Error::DatabaseNotFound(format!("the database of lease {id} no longer exists")))?;
        let credentials = row
            .kept_login
            .clone()
            .unwrap_or_else(|| Credentials { user: login_of(number), password: format!("kept-{number}").into() });
        row.kept_login = Some(credentials.clone());
        row.seen.keep_until = Some(until);
        row.seen.keep_lease = Some(id);
        row.seen.reason = Some(reason.to_owned());
        let name = DatabaseName::kept(&lease.pool, row.seen.id.0);
        Ok(Kept { database: row.seen.id, name, credentials, until })
    }

    pub(super) fn share_login(&mut self, ids: &[LeaseId]) -> Result<Vec<Lease>, Error> {
        let number = self.next_number();
        let shared = Credentials { user: login_of(number), password: format!("shared-{number}").into() };
        self.server
            .logins
            .insert(shared.user.clone(), FakeLogin { password: shared.password.clone(), can_login: true });
        let mut leases = Vec::with_capacity(ids.len());
        for &id in ids {
            let database = self.live_lease(id)?.database;
            let oid = database.and_then(|database| self.databases.get(&database)).and_then(|row| row.seen.oid);
            if let Some(found) = oid.and_then(|oid| self.server.databases.get_mut(&oid)) {
                found.connect.insert(shared.user.clone());
            }
            if let Some(row) = self.leases.get_mut(&id) {
                row.seen.credentials = Some(shared.clone());
                leases.push(row.seen.clone());
            }
        }
        Ok(leases)
    }

    pub(super) fn ended_leases(&self) -> Vec<Lease> {
        let mut ended: Vec<&LeaseRow> = self.leases.values().filter(|row| row.ended.is_some()).collect();
        ended.sort_by(|a, b| b.ended.partial_cmp(&a.ended).unwrap_or(std::cmp::Ordering::Equal));
        ended.into_iter().map(|row| Lease { credentials: None, ..row.seen.clone() }).collect()
    }

    pub(super) fn credentials(&self, name: &str) -> Result<Credentials, Error> {
        let leased = self.live().find(|lease| lease.database_name == name).and_then(|lease| lease.credentials.clone());
        let kept = || {
            let row = self.databases.values().find(|row| {
                row.seen.state == DatabaseState::Kept && row.seen.slot.is_none() && row.seen.name.as_str() == name
            });
            row.and_then(|row| row.kept_login.clone())
        };
        leased
            .or_else(kept)
            .ok_or_else(|| Error::DatabaseNotFound(format!("there is no leased or kept database \"{}\"", shown(name))))
    }

    pub(super) fn drop_kept(&mut self, name: &str) -> Result<(), Error> {
        let row = self
            .databases
            .values_mut()
            .find(|row| row.seen.state == DatabaseState::Kept && row.seen.name.as_str() == name)
            .ok_or_else(|| Error::DatabaseNotFound(format!("there is no kept database \"{name}\"")))?;
        row.seen.state = DatabaseState::Retiring;
        row.seen.keep_until = None;
        row.seen.reason = Some("a request ended its keep".to_owned());
        Ok(())
    }

    pub(super) fn announce(&mut self, announce: &Announce) -> Result<bool, Error> {
        self.pool(&announce.pool)?;
        if let Some(fingerprint) = &announce.fingerprint
            && self.current(&announce.pool, fingerprint).is_none()
        {
            return Err(Error::TemplateNotFound(format!(
                "pool \"{}\" has no template \"{fingerprint}\"; PUT it first",
                announce.pool
            )));
        }
        if self.runs.get(&announce.run).is_some_and(|row| row.ended) {
            return Err(Error::RunEnded(announce.run.clone()));
        }
        let wanted = announce.workers.saturating_mul(announce.aliases);
        self.check_limit(&announce.pool, wanted)?;
        let now = self.now;
        self.pools_used.insert(announce.pool.clone(), now);
        let before = self.runs.insert(
            announce.run.clone(),
            RunRow {
                announced: Some((announce.pool.clone(), announce.fingerprint.clone(), wanted)),
                last_put: now,
                ended: false,
            },
        );
        Ok(before.and_then(|row| row.announced).is_none_or(|(pool, ..)| pool != announce.pool))
    }

    pub(super) fn end_run(&mut self, run: &str) -> u64 {
        self.runs.entry(run.to_owned()).or_default().ended = true;
        let leases: Vec<LeaseId> =
            self.live().filter(|lease| lease.run.as_deref() == Some(run)).map(|lease| lease.id).collect();
        let ended = leases
            .into_iter()
            .filter(|&lease| self.end(lease, LeaseState::Released, "its run ended").unwrap_or(false))
            .count();
        ended as u64
    }
}
