//! A run: measures part after part, and collects rows with goals.

use crate::api::{Api, POOL, POOL_OF_MANY, Size};
use crate::args::{Effort, Group, Options};
use crate::environment::{Environment, Place};
use crate::error::{BenchError, context};
use crate::plain::PlainServer;
use crate::progress::Progress;
use crate::results::{Pair, Results, Row};
use crate::server::Admin;
use crate::{churn, latency, scale, template};

/// Callers of the comparison with plain Postgres, and the ratio to reach.
const CALLERS: [(u32, f64); 2] = [(1, 1.8), (8, 1.0)];

/// Connections of a server for [`scale`] beside those of its databases.
const MORE_CONNECTIONS: u32 = 100;

/// What this program does not measure, and what does.
const NOT_MEASURED: [[&str; 2]; 4] = [
    ["one test from an editor", "scripts/with-daemon.py .venv/bin/python clients/python/bench/one_test.py"],
    ["whole test suites, with and without pgdibs", "clients/python/bench/whole_runs.py --help"],
    [
        "a template imported and built",
        "scripts/with-daemon.py .venv/bin/python clients/python/bench/template_import.py",
    ],
    [
        "large templates on file systems that share blocks",
        "sudo PGDIBS_BIN=target/release/pgdibs .venv/bin/python clients/python/bench/large_template.py",
    ],
];

/// A run in progress.
struct Run<'a> {
    effort: Effort,
    results: &'a mut Results,
    progress: Progress,
}

/// Starts servers and daemons, measures, removes everything. The results have what was measured when a part fails or is interrupted.
///
/// # Errors
/// A daemon, a request or a measurement fails, or the run is interrupted.
pub(crate) async fn run(options: &Options, results: &mut Results) -> Result<(), BenchError> {
    let mut environment = Environment::new(options);
    results.not_measured = NOT_MEASURED.map(|pair| pair.map(str::to_owned)).to_vec();
    let progress = Progress::new(&options.groups(), options.effort());
    let mut run = Run { effort: options.effort(), results: &mut *results, progress };
    let measured = tokio::select! {
        measured = run.measure(options, &mut environment) => measured,
        () = interrupted() => Err(BenchError::Interrupted),
    };
    let removed = environment.remove().await;
    results.complete = measured.is_ok() && options.groups().len() == Group::ALL.len();
    measured.and(removed)
}

impl Run<'_> {
    async fn measure(&mut self, options: &Options, environment: &mut Environment<'_>) -> Result<(), BenchError> {
        self.progress.stage("starting a daemon and its server");
        let first = environment.first().await?;
        let major = self.describe(&first).await?;
        for group in options.groups() {
            match group {
                Group::Acquire => self.acquire(&first).await?,
                Group::Return => self.returns(&first).await?,
                Group::Waiters => self.waiters(&first).await?,
                Group::Churn => {
                    let (api, plain) = first.with_plain_side().await?;
                    self.churn(&first, &api, (&plain, major)).await?;
                    if options.server_url.is_none() {
                        self.progress.stage("starting a daemon on a server that it reaches by TCP");
                        let place = environment.tcp().await?;
                        let (api, plain) = place.with_plain_side().await?;
                        self.churn(&place, &api, (&plain, major)).await?;
                    }
                }
                Group::Size => self.size(options, environment, &first).await?,
            }
            self.progress.end(group, self.effort);
        }
        Ok(())
    }

    /// Sets the title; returns the server's major version.
    async fn describe(&mut self, place: &Place) -> Result<u32, BenchError> {
        let mut admin = context("a connection", Admin::connect(&place.own).await)?;
        let (date, version, major) = context("its version", admin.about().await)?;
        context("a disconnect", admin.close().await)?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let model = model.trim_start_matches([':', '\t', ' ']);
        self.results.title = format!(
            "{date}, pgdibs {}, Postgres {version}, {} with {cpus} CPUs {model}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
        );
        Ok(u32::try_from(major).unwrap_or(0))
    }

    fn ratio(&mut self, row: Row) {
        self.results.ratios.push(row);
    }

    fn row(&mut self, row: Row) {
        self.results.rows.push(row);
    }

    async fn acquire(&mut self, place: &Place) -> Result<(), BenchError> {
        self.progress.stage("acquiring from a full pool");
        let api = pool_of(place).await?;
        let samples = latency::acquire(&api, self.effort).await?;
        self.row(Row::new("acquire, at rest", "ms", samples).at_most(50, 0.5));
        let burst = api.most_ready(scale::BURST, 1).await?;
        self.progress.stage(&format!("{burst} acquires at once"));
        let samples = scale::burst(&api, burst, self.effort).await?;
        self.row(Row::new(format!("acquire, {burst} at once with {burst} ready"), "ms", samples).at_most(99, 25.0));
        self.progress.stage("acquiring while four callers return other databases");
        let samples = scale::before_returns(&api, self.effort).await?;
        self.row(Row::new("acquire, beside the returns of 4", "ms", samples).at_most(50, 1.0).at_most(95, 5.0));
        api.delete().await
    }

    async fn returns(&mut self, place: &Place) -> Result<(), BenchError> {
        self.progress.stage("returning with a connected session");
        let api = pool_of(place).await?;
        let returns = latency::release(&api, self.effort).await?;
        self.row(Row::new("return until the name is clean", "ms", returns.total).at_most(50, 6.0).at_most(95, 15.0));
        self.row(Row::new("  of it: until the release is answered", "ms", returns.released));
        self.row(Row::new("  after it: first connection", "ms", returns.connected));
        self.progress.stage("resetting, beside TRUNCATE");
        let resets = latency::reset(&api, self.effort).await?;
        self.row(Row::new("reset with a connected session", "ms", resets.latency).at_most(50, 7.0));
        self.ratio(Row::new("resets / TRUNCATE and reload", "x", resets.ratios).at_least(1.5));
        self.row(Row::new("  resets of one worker", "per s", resets.rates));
        self.row(Row::new("  TRUNCATE of 50 tables and reload of 10", "per s", resets.truncate_rates));
        api.delete().await
    }

    async fn waiters(&mut self, place: &Place) -> Result<(), BenchError> {
        let count = self.effort.waiters;
        self.progress.stage(&format!("{count} callers wait for one database"));
        let waiters = scale::wait(&place.api, count, &place.meter).await?;
        self.row(
            Row::new(format!("release until the first of {count} waiters has it"), "ms", waiters.wake_ups)
                .at_most(50, 5.0),
        );
        if let Some(bytes) = waiters.resident_bytes {
            self.row(Row::new("  memory of the daemon with them", "MB", bytes as f64 / 1e6).at_most(50, 60.0));
        }
        Ok(())
    }

    async fn churn(&mut self, place: &Place, api: &Api, plain: (&PlainServer, u32)) -> Result<(), BenchError> {
        for (callers, goal) in CALLERS {
            let what = format!("{callers} {}, {}", if callers == 1 { "caller" } else { "callers" }, place.way);
            self.progress.stage(&format!("cycles beside plain Postgres: {what}"));
            let compared = churn::compare(self.effort, callers, plain, api, &place.meter).await?;
            let (pgdibs, plain) = (compared.pgdibs, compared.plain);
            let pair = |of: &dyn Fn(&churn::Side) -> f64| [of(&pgdibs), of(&plain)];
            let (rates, waits) = (pair(&|side| side.rates.percentile(50)), pair(&|side| side.waits.percentile(50)));
            self.results.pairs.push(Pair { what: what.clone(), rates, waits });
            self.ratio(Row::new(format!("cycles / plain, {what}"), "x", compared.ratios).at_least(goal));
            if compared.ratios_at_once.len() > 0 {
                self.ratio(Row::new("  / plain that drops at once", "x", compared.ratios_at_once));
            }
            let longest = pgdibs.waits.percentile(100) / pgdibs.waits.percentile(50);
            self.ratio(Row::new("  longest wait / median wait", "x", longest).at_most(50, 5.0));
            self.row(Row::new(format!("cycles, pgdibs, {what}"), "per s", pgdibs.rates));
            self.row(Row::new(format!("  plain: {}", compared.variant.name()), "per s", plain.rates));
            self.row(Row::new("  acquire", "ms", pgdibs.waits));
            self.row(Row::new("  first connection after it", "ms", compared.connects).at_most(50, 15.0));
            self.row(Row::new("  plain: CREATE DATABASE", "ms", plain.waits));
            if place.meter.sees_server() && pgdibs.costs.len() > 0 {
                self.row(Row::new("  processor of daemon and server per cycle", "ms", pgdibs.costs));
                self.row(Row::new("  plain: processor of the server per cycle", "ms", plain.costs));
            }
        }
        api.delete().await
    }

    async fn size(
        &mut self,
        options: &Options,
        environment: &mut Environment<'_>,
        first: &Place,
    ) -> Result<(), BenchError> {
        let wanted = self.effort.ready;
        let (few, many, counts) = match options.server_url {
            Some(_) => (first.clone(), first.clone(), false),
            None => {
                self.progress.stage("starting a daemon for many databases");
                let few = environment.tcp().await?;
                let (many, counts) = environment.many(wanted + MORE_CONNECTIONS).await?;
                (few, many, counts)
            }
        };
        let (mut few_api, mut many_api) = (few.api.with_pool(POOL), many.api.with_pool(POOL_OF_MANY));
        template::build(&mut few_api, template::SMALL).await?;
        few_api.resize(Size { warm: scale::FEW, max: scale::FEW, spares: 0 }).await?;
        let one_server = options.server_url.is_some();
        let before =
            if one_server { scale::acquires(&[(&few_api, scale::FEW)], self.effort).await? } else { Vec::new() };
        if one_server {
            few_api.delete().await?;
        }

        let bytes = template::build(&mut many_api, template::SMALL).await?;
        let most = many_api.most_ready(wanted, bytes).await?;
        self.progress.stage(&format!("cloning {most} databases"));
        let size = |ready| Size { warm: ready, max: ready, spares: 0 };
        many_api.resize(size(most)).await?;
        let ready = many_api.wait_for_ready(most).await?;
        many_api.resize(size(ready)).await?;
        self.progress.stage(&format!("acquiring with {ready} ready databases"));
        let mut admin = context("a connection", Admin::connect(&many.own).await)?;
        if counts {
            context("its statistics", admin.reset_statistics().await)?;
        }
        let mut measured = match one_server {
            true => [before, scale::acquires(&[(&many_api, ready)], self.effort).await?].concat(),
            false => scale::acquires(&[(&few_api, scale::FEW), (&many_api, ready)], self.effort).await?,
        };
        if let (Some((many, many_medians)), Some((few, few_medians))) = (measured.pop(), measured.pop()) {
            let ratios = many_medians.ratios_to(&few_medians);
            self.ratio(
                Row::new(format!("acquire with {ready} ready / with {}", scale::FEW), "x", ratios).at_most(50, 1.2),
            );
            self.row(Row::new(format!("acquire with {} ready", scale::FEW), "ms", few));
            self.row(Row::new(format!("acquire with {ready} ready"), "ms", many));
        }
        if counts && let Some(mean) = context("its statistics", admin.acquire_statement().await)? {
            self.row(Row::new("  its statement, mean by pg_stat_statements", "ms", mean).at_most(50, 0.3));
        } else {
            self.lacks("the statement of an acquire", "needs a server of the benchmark's own with pg_stat_statements");
        }
        context("a disconnect", admin.close().await)?;
        let status = scale::status(&many_api).await?;
        self.row(Row::new(format!("GET /v1/status with {ready} databases"), "ms", status).at_most(50, 20.0));
        many_api.wait_until_idle(size(ready)).await?;
        let sees_server = many.meter.sees_server();
        if let Some(pass) = scale::reconcile(&many_api, size(ready), &many.meter).await?.filter(|_| sees_server) {
            self.row(Row::new(format!("processor of one reconcile with {ready}"), "ms", pass).at_most(50, 20.0));
        } else {
            self.lacks("one reconcile", "needs /proc and a server of the benchmark's own");
        }
        self.progress.stage(&format!("watching {ready} databases at rest"));
        if let Some((of_daemon, of_server)) = scale::at_rest(&many.meter, self.effort.rest).await {
            let what = format!("daemon at rest with {ready} databases");
            self.row(Row::new(what, "% of a core", of_daemon).at_most(50, 0.1));
            if sees_server {
                self.row(Row::new("  its server", "% of a core", of_server).at_most(50, 1.0));
            }
        }
        Ok(())
    }

    fn lacks(&mut self, goal: &str, why: &str) {
        self.results.not_measured.push([goal.to_owned(), why.to_owned()]);
    }
}

/// The pool of 50 tables.
async fn pool_of(place: &Place) -> Result<Api, BenchError> {
    let mut api = place.api.with_pool(POOL);
    template::build(&mut api, template::LARGE).await?;
    Ok(api)
}

/// Returns at SIGTERM or SIGINT.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        _ => std::future::pending().await,
    }
}
