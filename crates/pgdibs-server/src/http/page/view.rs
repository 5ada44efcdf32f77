//! What the page shows, row by row, from a status. The template page.html lays it out and escapes every text.

use std::collections::BTreeMap;

use askama::Template;
use pgdibs_api::database::{Database, DatabaseState};
use pgdibs_api::lease::Lease;
use pgdibs_api::pool::Pool;
use pgdibs_api::status::{Finding, FindingSeverity, HistoryBucket, Status, Waiter, WaiterKind};
use pgdibs_api::template::{Template as PoolTemplate, TemplateState};
use pgdibs_api::time::seconds_between;
use pgdibs_core::event::EventKind;

use super::super::shared_page::Shown;
use crate::events::Record;
use crate::overview::{self, Headline, RunOverview, SHORT, count_of, headline, live_leases};
use crate::units::{duration, shortened, size};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// So many workers of a run are shown; the table of leases has all of them.
const WORKERS: usize = 12;

/// So many last lines of a failed build are shown.
const LOG_LINES: usize = 20;

/// The whole page.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct Page<'a> {
    style: &'static str,
    script: &'static str,
    address: &'a str,
    /// The kinds of events, which a browser must name to listen to.
    kinds: String,
    status: &'a Status,
    /// The id of the last event before the status was read.
    last: &'a str,
    headline: Headline,
    /// A name, a number, and what it is beside.
    figures: Vec<(&'static str, String, String)>,
    sparks: Vec<Spark>,
    pools: Vec<PoolView<'a>>,
    runs: Vec<RunView<'a>>,
    waiters: Vec<WaiterView<'a>>,
    leases: Vec<LeaseView<'a>>,
    templates: Vec<TemplateView<'a>>,
    kept: Vec<KeptView<'a>>,
    blocked: Vec<(&'a str, String, u32)>,
    /// What the doctor found, and how bad it is.
    findings: Vec<(&'a Finding, &'static str)>,
    events: Vec<EventView<'a>>,
    /// A pool for lines to copy.
    example_pool: &'a str,
}

/// A time, and how far from now it is.
struct Moment<'a> {
    at: &'a str,
    text: String,
}

struct PoolView<'a> {
    pool: &'a Pool,
    /// The state of each slot, and what is in it.
    slots: Vec<(&'static str, String)>,
    /// The states in words.
    summary: String,
}

struct RunView<'a> {
    run: RunOverview<'a>,
    short: String,
    held: String,
    /// A worker, its database, and how long it has had it.
    workers: Vec<(String, &'a str, Moment<'a>)>,
    /// How many workers are not shown.
    others: usize,
}

struct WaiterView<'a> {
    waiter: &'a Waiter,
    who: String,
    wants: String,
    waited: String,
    waits_for: String,
}

struct LeaseView<'a> {
    lease: &'a Lease,
    worker: String,
    run: String,
    held: Moment<'a>,
    expires: Moment<'a>,
    connections: Option<u32>,
    /// What changes of it, but for times that go on.
    same: String,
}

struct TemplateView<'a> {
    template: &'a PoolTemplate,
    short: String,
    figures: String,
    /// Which inputs made it necessary.
    cause: Option<String>,
    used: Moment<'a>,
    /// Why it failed or retires, at most its last lines.
    detail: Option<String>,
}

struct KeptView<'a> {
    database: &'a Database,
    until: Option<Moment<'a>>,
    /// Whether it is still leased, so that its lease must end first.
    is_leased: bool,
}

/// The last minutes of one figure.
struct Spark {
    name: &'static str,
    /// The last value.
    now: String,
    /// The largest value.
    most: String,
    /// Of a polyline in a box of 100 by 30.
    points: String,
}

struct EventView<'a> {
    key: String,
    at: &'a str,
    /// Its time of day.
    clock: &'a str,
    /// What happened, such as `lease granted`.
    kind: String,
    about: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(shown: &'a Shown, address: &'a str) -> Self {
        let status = &shown.status;
        let now = status.taken_at.as_str();
        let connections = overview::connections(status);
        let lease = |lease: &'a Lease| {
            let connections = connections.get(lease.id.as_str()).copied();
            let count = connections.map_or_else(String::new, |count| count.to_string());
            LeaseView {
                lease,
                worker: worker(lease),
                run: lease.run.as_deref().map_or_else(String::new, |run| shortened(run, SHORT)),
                held: since(&lease.acquired_at, now),
                expires: until(&lease.expires_at, now),
                connections,
                same: format!("{} {} {count}", lease.generation, lease.expires_at),
            }
        };
        let kept = |database: &'a Database| KeptView {
            database,
            until: database.kept_until.as_deref().map(|at| until(at, now)),
            is_leased: database.state != DatabaseState::Kept,
        };
        let has_kept = |database: &&Database| {
            database.state == DatabaseState::Kept
                || database.state == DatabaseState::Leased && database.kept_until.is_some()
        };
        let blocked = status.pools.iter().flat_map(|pool| &pool.blocked).map(|blocked| {
            let why = blocked.reason.iter().chain(&blocked.last_error).map(String::as_str).collect::<Vec<_>>();
            let why = if why.is_empty() { "no reason recorded".to_owned() } else { why.join(": ") };
            (blocked.database.as_str(), why, blocked.attempts)
        });
        let templates = status.pools.iter().flat_map(|pool| &pool.templates);
        Self {
            style: STYLE,
            script: SCRIPT,
            address,
            kinds: EventKind::ALL.iter().map(|kind| kind.as_str()).chain(["gap"]).collect::<Vec<_>>().join(" "),
            status,
            last: &shown.last,
            headline: headline(status),
            figures: figures(status),
            sparks: sparks(&status.history),
            pools: status.pools.iter().map(|pool| PoolView::new(pool, status)).collect(),
            runs: overview::runs(status).into_iter().map(|run| RunView::new(run, now)).collect(),
            waiters: status.waiters.iter().map(|waiter| WaiterView::new(waiter, status)).collect(),
            leases: live_leases(status).into_iter().map(lease).collect(),
            templates: templates.map(|template| TemplateView::new(template, now)).collect(),
            kept: status.databases.iter().filter(has_kept).map(kept).collect(),
            blocked: blocked.collect(),
            findings: status.findings.iter().map(|finding| (finding, level(finding.severity))).collect(),
            events: shown.events.iter().filter_map(|record| EventView::new(record)).collect(),
            example_pool: status.pools.first().map_or("myapp_test", |pool| &pool.pool),
        }
    }
}

fn level(severity: FindingSeverity) -> &'static str {
    match severity {
        FindingSeverity::Note | FindingSeverity::Unknown => "muted",
        FindingSeverity::Warning => "warning",
        FindingSeverity::Error => "bad",
    }
}

fn since<'a>(at: &'a str, now: &str) -> Moment<'a> {
    Moment { at, text: seconds_between(at, now).map_or_else(|| at.to_owned(), duration) }
}

fn until<'a>(at: &'a str, now: &str) -> Moment<'a> {
    Moment { at, text: seconds_between(now, at).map_or_else(|| at.to_owned(), duration) }
}

/// `gw0`, or `gw0/replica` for a database that is not its default one.
fn worker(lease: &Lease) -> String {
    let worker = lease.worker.as_deref().unwrap_or("–");
    if lease.alias == "default" { worker.to_owned() } else { format!("{worker}/{}", lease.alias) }
}

fn figures(status: &Status) -> Vec<(&'static str, String, String)> {
    let sum = |count: fn(&Pool) -> u64| status.pools.iter().map(count).sum::<u64>();
    let slots: u64 = status.pools.iter().map(|pool| u64::from(pool.max)).sum();
    let longest = status.pools.iter().map(|pool| pool.longest_wait_seconds).fold(0.0, f64::max);
    let (leased, waiting) = (sum(|pool| pool.counts.leased), sum(|pool| pool.counts.waiting));
    let limits = &status.server.limits;
    let none = String::new;
    vec![
        ("ready", sum(|pool| pool.counts.ready).to_string(), none()),
        (
            "leased",
            leased.to_string(),
            format!("of {}", count_of(slots.try_into().unwrap_or(usize::MAX), "slot", "slots")),
        ),
        ("spare", sum(|pool| pool.counts.spare).to_string(), none()),
        ("waiting", waiting.to_string(), if waiting > 0 { format!("longest {}", duration(longest)) } else { none() }),
        (
            "disk free",
            limits.free_disk_bytes.map_or_else(|| "?".to_owned(), size),
            format!("floor {}", size(limits.disk_floor_bytes)),
        ),
    ]
}

impl<'a> PoolView<'a> {
    fn new(pool: &'a Pool, status: &'a Status) -> Self {
        let holders: BTreeMap<&str, &Lease> = status.leases.iter().map(|lease| (lease.id.as_str(), lease)).collect();
        let mut slots = vec![("empty", String::new()); usize::try_from(pool.max).unwrap_or_default()];
        for database in status.databases.iter().filter(|database| database.pool == pool.pool) {
            let Some(slot) = database.slot.and_then(|slot| usize::try_from(slot).ok()) else { continue };
            if slots.len() <= slot {
                slots.resize(slot + 1, ("empty", String::new()));
            }
            let holder = database.lease.as_deref().and_then(|lease| holders.get(lease));
            let by = holder.map_or_else(String::new, |lease| format!(" by {} {}", worker(lease), lease.holder));
            slots[slot] = (database.state.as_str(), format!("{}: {}{by}", database.database, database.state.as_str()));
        }
        let states = ["leased", "ready", "creating", "retiring", "kept", "blocked", "empty"];
        let count = |state| slots.iter().filter(|(of, _)| *of == state).count();
        let counts = states.map(|state| (count(state), state));
        let summary = counts.iter().filter(|(count, _)| *count > 0).map(|(count, state)| format!("{count} {state}"));
        let summary = summary.collect::<Vec<_>>().join(", ");
        Self { pool, slots, summary }
    }

    /// What the pool is doing, beside its slots.
    fn at_work(&self) -> String {
        let counts = &self.pool.counts;
        let all = [(counts.creating, "being cloned"), (counts.retiring, "being dropped"), (counts.spare, "spare")];
        let mut words: Vec<String> =
            all.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if self.pool.dropping {
            words.push("the pool is being dropped".to_owned());
        }
        words.join(", ")
    }
}

impl<'a> RunView<'a> {
    fn new(run: RunOverview<'a>, now: &str) -> Self {
        let shown = run.leases.iter().take(WORKERS);
        let workers = shown.map(|&lease| (worker(lease), lease.database.as_str(), since(&lease.acquired_at, now)));
        let workers = workers.collect();
        let others = run.leases.len().saturating_sub(WORKERS);
        let held = match run.wanted {
            0 => count_of(run.leases.len(), "lease", "leases"),
            wanted => format!("{} of {wanted} leases", run.leases.len()),
        };
        Self { short: shortened(run.run, SHORT), held, workers, others, run }
    }
}

impl<'a> WaiterView<'a> {
    fn new(waiter: &'a Waiter, status: &Status) -> Self {
        let names = [waiter.worker.as_deref(), Some(waiter.holder.as_str()).filter(|holder| !holder.is_empty())];
        let mut who = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if who.is_empty() {
            who = waiter.run.as_deref().map_or_else(|| "a caller without name".to_owned(), |run| format!("run {run}"));
        }
        let template =
            waiter.fingerprint.as_deref().map_or_else(String::new, |one| format!(" of {}", shortened(one, SHORT)));
        let count = usize::try_from(waiter.count).unwrap_or(usize::MAX);
        let wants = match waiter.wants {
            WaiterKind::Reset => "a spare for its reset".to_owned(),
            WaiterKind::Exact => format!("{} in the workers' slots", count_of(count, "database", "databases")),
            WaiterKind::Acquire | WaiterKind::Unknown => count_of(count, "database", "databases"),
        };
        Self {
            waiter,
            who,
            wants: format!("{wants}{template}"),
            waited: duration(waiter.waited_seconds),
            waits_for: overview::waits_for(status, waiter),
        }
    }
}

impl<'a> TemplateView<'a> {
    fn new(template: &'a PoolTemplate, now: &str) -> Self {
        let figures = [
            template.size_bytes.map(size),
            template.built_seconds.map(|seconds| format!("built in {}", duration(seconds))),
            template.clone_seconds.map(|seconds| format!("a clone takes {:.0} ms", seconds * 1000.0)),
        ];
        let is_news = matches!(template.state, TemplateState::Failed | TemplateState::Retiring);
        let detail = template.detail.as_deref().filter(|_| is_news).map(last_lines);
        Self {
            template,
            short: shortened(&template.fingerprint, SHORT),
            figures: figures.into_iter().flatten().collect::<Vec<_>>().join(" · "),
            cause: template.input_changes.as_ref().map(overview::changes_since),
            used: since(&template.last_used_at, now),
            detail,
        }
    }
}

impl<'a> EventView<'a> {
    fn new(record: &'a Record) -> Option<Self> {
        let event = record.response()?;
        let subject = event.database.as_ref().or(event.template.as_ref()).or(event.pool.as_ref());
        let who = event.worker.iter().chain(&event.holder).map(String::as_str).collect::<Vec<_>>().join(" ");
        let parts = [
            subject.cloned(),
            Some(who).filter(|who| !who.is_empty()).or_else(|| event.run.as_ref().map(|run| format!("run {run}"))),
            event.seconds.map(moment),
            event.reason.clone(),
        ];
        Some(Self {
            key: record.id(0),
            at: &event.at,
            clock: event.at.get(11..19).unwrap_or_default(),
            kind: event.kind.replace('_', " "),
            about: parts.into_iter().flatten().collect::<Vec<_>>().join(" · "),
        })
    }
}

/// `0.8 ms`, `45 ms`, `2.5 s`.
fn moment(seconds: f64) -> String {
    match seconds * 1000.0 {
        milliseconds @ ..10.0 => format!("{milliseconds:.1} ms"),
        milliseconds @ ..1000.0 => format!("{milliseconds:.0} ms"),
        _ => duration(seconds),
    }
}

fn sparks(history: &[HistoryBucket]) -> Vec<Spark> {
    // The last bucket still runs, so its rate is not known.
    let whole = history.get(..history.len().saturating_sub(1)).unwrap_or_default();
    let spark = |name, values: Vec<Option<f64>>, shown: fn(f64) -> String| {
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let height = |value: f64| 29.0 - 28.0 * value / if most > 0.0 { most } else { 1.0 };
        let count = values.len().max(2);
        let points = values.iter().enumerate().filter_map(|(index, value)| {
            #[allow(clippy::cast_precision_loss, reason = "at most 60")]
            let x = 100.0 * (index as f64) / (count as f64 - 1.0);
            Some(format!("{x:.1},{:.1}", height((*value)?)))
        });
        Spark {
            name,
            now: values.iter().rev().flatten().next().map_or_else(|| "–".to_owned(), |last| shown(*last)),
            most: shown(most),
            points: points.collect::<Vec<_>>().join(" "),
        }
    };
    #[allow(clippy::cast_precision_loss, reason = "a count of 15 seconds")]
    let grants = whole.iter().map(|bucket| Some(bucket.grants as f64 / 15.0)).collect();
    vec![
        spark("leases per second", grants, |rate| format!("{rate:.1}")),
        spark("wait, 95 % below", history.iter().map(|bucket| bucket.wait_p95_seconds).collect(), moment),
        spark("a clone takes", history.iter().map(|bucket| bucket.clone_p50_seconds).collect(), moment),
    ]
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let cut = lines.len().saturating_sub(LOG_LINES);
    let rest = lines.get(cut..).unwrap_or_default().join("\n");
    if cut == 0 { rest } else { format!("… {cut} lines before\n{rest}") }
}
