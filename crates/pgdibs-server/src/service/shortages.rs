//! Why callers get no database though the server answers. The errors of acquires and resets, the probes and the status say the same sentences.

use pgdibs_core::database::DatabaseState;
use pgdibs_core::name::PoolName;
use pgdibs_core::pool::Pool;
use pgdibs_core::request::TicketKind;
use pgdibs_core::snapshot::Snapshot;
use pgdibs_core::template::TemplateId;

/// The shortages of all pools at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shortages {
    /// Of pools that cannot grant anything: the daemon is not ready.
    pub stops: Vec<String>,
    /// Of pools whose callers wait, or will, until a database comes free. The daemon is ready: a probe that fails would keep releases and
    /// renewals from a daemon behind a load balancer, and the shortage would last.
    pub delays: Vec<String>,
}

impl Shortages {
    /// Those of a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut shortages = Self::default();
        for pool in snapshot.pools.iter().filter(|pool| !pool.dropping) {
            let waiters = || snapshot.tickets.iter().filter(|t| t.pool == pool.name && t.kind != TicketKind::Reset);
            let wanted = waiters().map(|ticket| ticket.template);
            let current = snapshot.current_template(&pool.name).map(|template| template.id);
            if let Some(sentence) = wanted.chain(current).find_map(|template| below_disk_floor(snapshot, template)) {
                let in_use = count(snapshot, pool, DatabaseState::Ready) + count(snapshot, pool, DatabaseState::Leased);
                if in_use == 0 { &mut shortages.stops } else { &mut shortages.delays }.push(sentence);
            } else if count(snapshot, pool, DatabaseState::Leased) >= limit(snapshot, pool)
                && waiters().next().is_some()
            {
                shortages.delays.push(exhausted(snapshot, &pool.name));
            }
        }
        shortages
    }
}

fn count(snapshot: &Snapshot, pool: &Pool, state: DatabaseState) -> usize {
    snapshot.databases.iter().filter(|database| database.pool == pool.name && database.state == state).count()
}

fn limit(snapshot: &Snapshot, pool: &Pool) -> usize {
    pool.settings.max.min(snapshot.limits.slots_by_connections.unwrap_or(u32::MAX)) as usize
}

/// Why no clone of this template is made, if the disk is too short for one.
pub(super) fn below_disk_floor(snapshot: &Snapshot, template: TemplateId) -> Option<String> {
    let template = snapshot.template(template).filter(|_| snapshot.disk_is_short_for(template))?;
    Some(format!(
        "no database of pool \"{}\" is cloned: {} MiB are free on the disk of the Postgres server at {}, a clone takes {} MiB while it is made, and disk_floor_mb (PGDIBS_DISK_FLOOR_MB) is {}; free some space or lower it",
        template.pool,
        snapshot.limits.free_disk_bytes.unwrap_or(0) >> 20,
        snapshot.server_address,
        snapshot.bytes_of_clone(template).div_ceil(1 << 20),
        snapshot.limits.disk_floor_bytes >> 20
    ))
}

/// How many slots a pool has, which setting says so, and which lease holds each.
pub(super) fn exhausted(snapshot: &Snapshot, pool: &PoolName) -> String {
    let max = snapshot.pools.iter().find(|p| &p.name == pool).map_or(0, |p| p.settings.max);
    let leases = snapshot.leases.iter().filter(|lease| &lease.pool == pool);
    let holders: Vec<String> = leases
        .map(|lease| {
            let worker = lease.worker.as_deref().unwrap_or("an unnamed holder");
            let holder = if lease.holder.is_empty() { worker } else { &lease.holder };
            format!("{} by {holder}", lease.database_name)
        })
        .collect();
    let held = match holders.is_empty() {
        true => "no database is leased".to_owned(),
        false => format!("leased: {}", holders.join(", ")),
    };
    let databases = || snapshot.databases.iter().filter(|database| &database.pool == pool);
    let creating = databases().filter(|database| database.state == DatabaseState::Creating).count();
    let last_error = databases().find_map(|database| database.last_error.as_ref());
    let last_error = last_error.map_or(String::new(), |error| format!("; the last clone failed: {error}"));
    let ahead = snapshot.tickets.iter().filter(|ticket| &ticket.pool == pool).count();
    let lowered = match snapshot.limits.slots_by_connections {
        Some(limit) if limit < max => format!(" (lowered to {limit} by the server's max_connections)"),
        _ => String::new(),
    };
    format!(
        "no database of pool \"{pool}\" on the Postgres server at {} is free: {held}; {creating} being cloned, {ahead} waiting, max is {max}{lowered}{last_error}",
        snapshot.server_address
    )
}
