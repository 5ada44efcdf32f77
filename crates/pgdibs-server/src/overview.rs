//! What a person reads from a status: its state in a word and why, runs side by side, who waits for whom. The page and the terminal
//! screen show it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use pgdibs_api::database::DatabaseState;
use pgdibs_api::lease::{Lease, LeaseState};
use pgdibs_api::pool::Pool;
use pgdibs_api::status::{Status, Waiter, WaiterKind};
use pgdibs_api::template::{InputChanges, TemplateState};

use crate::units::{duration, shortened};

/// A fingerprint or the name of a run in a table.
pub const SHORT: usize = 13;

/// How urgent the state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing to do.
    Good,
    /// Callers wait, or something wants attention.
    Warning,
    /// No database can be leased.
    Bad,
}

impl Level {
    /// `good`, `warning` or `bad`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// The state in a word, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// The word, such as `Ready`.
    pub word: &'static str,
    /// How urgent it is.
    pub level: Level,
    /// Why; never empty.
    pub why: Vec<String>,
}

/// The state in a word.
#[must_use]
pub fn headline(status: &Status) -> Headline {
    let of = |word, level, why| Headline { word, level, why };
    let server = &status.server;
    if !server.reachable {
        let word = if server.version.is_none() { "Starting" } else { "Server lost" };
        let mut why = status.daemon.reasons.clone();
        if let Some(detail) = server.detail.iter().find(|detail| !why.contains(detail)) {
            why.push(detail.clone());
        }
        return of(word, Level::Bad, why);
    }
    if !status.daemon.ready {
        return of("Not ready", Level::Bad, status.daemon.reasons.clone());
    }
    if server.limits.below_disk_floor {
        let why = "free disk space is below the floor (disk_floor_mb): no database is cloned".to_owned();
        return of("Disk full", Level::Bad, vec![why]);
    }
    let waits: Vec<String> = status.pools.iter().filter(|pool| pool.counts.waiting > 0).map(waiting).collect();
    if !waits.is_empty() {
        return of("Waiting", Level::Warning, waits);
    }
    let troubles = troubles(status);
    if !troubles.is_empty() {
        return of("Attention", Level::Warning, troubles);
    }
    let count = |count: fn(&Pool) -> u64| status.pools.iter().map(count).sum::<u64>();
    let (ready, leased) = (count(|pool| pool.counts.ready), count(|pool| pool.counts.leased));
    let why = match (status.pools.is_empty(), leased) {
        (true, _) => "there is no pool yet".to_owned(),
        (false, 0) => format!("{ready} ready, none leased"),
        (false, _) => format!("{leased} leased, {ready} ready, no caller waits"),
    };
    of("Ready", Level::Good, vec![why])
}

fn waiting(pool: &Pool) -> String {
    let counts = &pool.counts;
    let callers = if counts.waiting == 1 { "caller waits" } else { "callers wait" };
    let full = match counts.leased {
        leased if leased >= u64::from(pool.max) => format!("; all {leased} slots are leased"),
        _ => String::new(),
    };
    let longest = duration(pool.longest_wait_seconds);
    format!("{}: {} {callers}, the longest for {longest}{full}", pool.pool, counts.waiting)
}

fn troubles(status: &Status) -> Vec<String> {
    let mut troubles = Vec::new();
    for pool in &status.pools {
        let failed = pool.templates.iter().filter(|template| template.state == TemplateState::Failed);
        troubles
            .extend(failed.map(|one| format!("{}: template {} failed", pool.pool, shortened(&one.fingerprint, SHORT))));
        if !pool.blocked.is_empty() {
            troubles.push(format!("{}: {} blocked", pool.pool, count_of(pool.blocked.len(), "database", "databases")));
        }
    }
    troubles
}

/// `1 lease`, `2 leases`.
#[must_use]
pub fn count_of(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// The live leases, by pool and slot.
#[must_use]
pub fn live_leases(status: &Status) -> Vec<&Lease> {
    let mut live: Vec<&Lease> = status.leases.iter().filter(|lease| lease.state == LeaseState::Live).collect();
    live.sort_by(|a, b| (&a.pool, a.slot).cmp(&(&b.pool, b.slot)));
    live
}

/// How many connections the database of each lease has, by the lease's id.
#[must_use]
pub fn connections(status: &Status) -> BTreeMap<&str, u32> {
    let leased = status.databases.iter().filter(|database| database.state == DatabaseState::Leased);
    leased.filter_map(|database| Some((database.lease.as_deref()?, database.sessions?))).collect()
}

/// A run with its workers.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "leases, which may carry a password, have no Debug")]
pub struct RunOverview<'a> {
    /// Its name.
    pub run: &'a str,
    /// Its pool.
    pub pool: &'a str,
    /// What the holders of its leases and waiters have in common; empty when it has neither.
    pub holder: String,
    /// How many leases it announced; 0 when it announced none.
    pub wanted: u32,
    /// Its leases, by worker.
    pub leases: Vec<&'a Lease>,
    /// Its waiters.
    pub waiters: Vec<&'a Waiter>,
}

/// The runs that announced something, hold leases or wait.
#[must_use]
pub fn runs(status: &Status) -> Vec<RunOverview<'_>> {
    let mut runs: BTreeMap<(&str, &str), RunOverview<'_>> = BTreeMap::new();
    let empty = |run, pool| RunOverview {
        run,
        pool,
        holder: String::new(),
        wanted: 0,
        leases: Vec::new(),
        waiters: Vec::new(),
    };
    for one in &status.runs {
        let key = (one.pool.as_str(), one.run.as_str());
        runs.entry(key).or_insert_with(|| empty(&one.run, &one.pool)).wanted = one.wanted;
    }
    for lease in live_leases(status) {
        let Some(run) = lease.run.as_deref() else { continue };
        runs.entry((&lease.pool, run)).or_insert_with(|| empty(run, &lease.pool)).leases.push(lease);
    }
    for waiter in &status.waiters {
        let Some(run) = waiter.run.as_deref() else { continue };
        runs.entry((&waiter.pool, run)).or_insert_with(|| empty(run, &waiter.pool)).waiters.push(waiter);
    }
    let mut runs: Vec<RunOverview<'_>> = runs.into_values().collect();
    for run in &mut runs {
        run.leases.sort_by_key(|lease| (lease.worker.as_deref().map(natural), lease.alias.as_str()));
        let holders = run.leases.iter().map(|lease| lease.holder.as_str());
        run.holder = common_start(holders.chain(run.waiters.iter().map(|waiter| waiter.holder.as_str())));
    }
    runs
}

/// `gw2` before `gw10`.
fn natural(worker: &str) -> (&str, u64) {
    let name = worker.trim_end_matches(|c: char| c.is_ascii_digit());
    (name, worker.get(name.len()..).and_then(|digits| digits.parse().ok()).unwrap_or_default())
}

/// What all holders begin with, up to a separator: `ci-7/pid 4312` of `ci-7/pid 4312/gw0` and `ci-7/pid 4312/gw1`.
fn common_start<'a>(mut holders: impl Iterator<Item = &'a str>) -> String {
    let Some(first) = holders.next() else { return String::new() };
    let mut common = first;
    for holder in holders {
        let same = common.char_indices().zip(holder.chars()).take_while(|((_, a), b)| a == b);
        let end = same.last().map_or(0, |((at, c), _)| at + c.len_utf8());
        common = common.get(..end).unwrap_or_default();
    }
    if common.len() < first.len() {
        let end = common.rfind(['/', ' ', ',', ';']).unwrap_or(common.len());
        common = common.get(..end).unwrap_or_default();
    }
    common.trim().to_owned()
}

/// Who or what a waiter waits for: `the leases of run 7f3c (4) and ci-9 (2)`.
#[must_use]
pub fn waits_for(status: &Status, waiter: &Waiter) -> String {
    let pool = status.pools.iter().find(|pool| pool.pool == waiter.pool);
    let template =
        pool.and_then(|pool| pool.templates.iter().find(|one| Some(&one.fingerprint) == waiter.fingerprint.as_ref()));
    if let Some(template) = template.filter(|template| template.state == TemplateState::Building) {
        return match template.holder.as_str() {
            "" => "its template, which is being built".to_owned(),
            holder => format!("its template, which {holder} builds"),
        };
    }
    let ahead = status.waiters.iter().filter(|one| one.pool == waiter.pool && one.ticket < waiter.ticket).count();
    let behind = match ahead {
        0 => String::new(),
        ahead => format!("; behind {}", count_of(ahead, "other caller", "other callers")),
    };
    if waiter.wants == WaiterKind::Reset {
        return format!("a spare{behind}");
    }
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for lease in status.leases.iter().filter(|lease| lease.pool == waiter.pool && lease.state == LeaseState::Live) {
        let holder = match (&lease.run, lease.holder.as_str()) {
            (Some(run), _) => format!("run {}", shortened(run, SHORT)),
            (None, "") => "a holder without name".to_owned(),
            (None, holder) => holder.to_owned(),
        };
        *holders.entry(holder).or_default() += 1;
    }
    let full = pool.is_some_and(|pool| pool.counts.leased >= u64::from(pool.max));
    if holders.is_empty() || !full {
        return format!("a clone that is being made{behind}");
    }
    let mut holders: Vec<(String, usize)> = holders.into_iter().collect();
    holders.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let others = holders.split_off(holders.len().min(3)).len();
    let mut names: Vec<String> = holders
        .into_iter()
        .map(|(holder, leases)| format!("{holder} ({})", count_of(leases, "lease", "leases")))
        .collect();
    if others > 0 {
        names.push(count_of(others, "other", "others"));
    }
    format!("{}{behind}", names.join(", "))
}

/// `built after changes since 5e884898da28…: 1.sql changed; 2.sql, 3.sql added`.
#[must_use]
pub fn changes_since(changes: &InputChanges) -> String {
    let lists = [(&changes.changed, "changed"), (&changes.added, "added"), (&changes.removed, "removed")];
    let mut words: Vec<String> = lists
        .into_iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, verb)| format!("{} {verb}", names.join(", ")))
        .collect();
    if changes.more > 0 {
        words.push(format!("{} more", changes.more));
    }
    let since = shortened(&changes.since, SHORT);
    match words.is_empty() {
        true => format!("built without a change since {since}: forced, or that template had been dropped"),
        false => format!("built after changes since {since}: {}", words.join("; ")),
    }
}
