//! A run: starts two daemons and their embedded servers, measures them, stops them.

use serde_json::json;

use crate::api::Api;
use crate::args::Options;
use crate::daemon::BenchDaemon;
use crate::error::{BenchError, context};
use crate::plain::PlainSetting;
use crate::results::{Results, Row};
use crate::{latency, scale, template, throughput};

/// Starts the daemons, measures, stops them. Calls `progress` at each stage.
///
/// # Errors
/// A daemon, a request or a measurement fails.
pub(crate) async fn run(options: &Options, progress: impl Fn(String)) -> Result<Results, BenchError> {
    progress("starting two daemons and their servers".to_owned());
    let mut daemons = [BenchDaemon::start(options, "few")?, BenchDaemon::start(options, "many")?];
    let report = tokio::select! {
        report = measure(options, &mut daemons, &progress) => report,
        () = interrupted() => Err(BenchError::Daemon("was stopped: the benchmark was interrupted".to_owned())),
    };
    progress("stopping the daemons and their servers".to_owned());
    for daemon in daemons {
        daemon.stop().await;
    }
    report
}

async fn measure(
    options: &Options,
    [daemon, second]: &mut [BenchDaemon; 2],
    progress: &impl Fn(String),
) -> Result<Results, BenchError> {
    let (api, many) = (Api::new(daemon.url())?, Api::new(second.url())?);
    daemon.wait_until_ready(&api).await?;
    second.wait_until_ready(&many).await?;
    let superuser = context("its address", pgdibs_embedded::superuser_url(daemon.data_dir()))?;
    let version = context("its version", crate::plain::server_version(&superuser).await)?;
    progress("building the templates of 50 tables".to_owned());
    let template = template::build(&api).await?;
    template::build(&many).await?;
    let (mut ratios, mut rows) = (Vec::new(), Vec::new());

    progress("acquiring from a warm pool".to_owned());
    let acquire = latency::acquire(&api).await?;
    rows.push(Row::median("acquire from a warm pool", &acquire, "ms").at_most(0.5));
    progress("64 acquires at once".to_owned());
    let burst = scale::burst(&api).await?;
    rows.push(Row::median("acquire, 64 at once with 64 ready", &burst, "ms"));
    rows.push(Row::percentile("  of it: p99", &burst, 99, "ms").at_most(25.0));
    progress("acquiring while other databases are returned".to_owned());
    let before_returns = scale::before_returns(&api).await?;
    rows.push(Row::median("acquire, four callers return others", &before_returns, "ms").at_most(1.0));
    rows.push(Row::percentile("  of it: p95", &before_returns, 95, "ms").at_most(5.0));
    progress("releasing with a connected session".to_owned());
    let returns = latency::release(&api).await?;
    rows.push(Row::median("release until the name is leased again", &returns.total, "ms").at_most(6.0));
    rows.push(Row::percentile("  of it: p95", &returns.total, 95, "ms").at_most(15.0));
    rows.push(Row::median("  of it: release answered", &returns.released, "ms"));
    rows.push(Row::median("  of it: same name acquired", &returns.acquired, "ms"));
    rows.push(Row::median("  after it: connected and checked", &returns.connected, "ms"));
    progress("resetting".to_owned());
    let resets = latency::reset(&api, options.side(), options.rounds).await?;
    rows.push(Row::median("reset with a connected session", &resets.latency, "ms").at_most(7.0));
    rows.push(Row::median("one worker resets, connects, writes", &resets.rates, "per s"));
    rows.push(Row::median("one worker truncates, reloads, writes", &resets.truncate_rates, "per s"));
    ratios.push(Row::median("resets relative to TRUNCATE and reload", &resets.ratios, "x").at_least(1.5));

    let setting = PlainSetting::create(&superuser, api.pool, &template.database).await;
    let setting = context("a login and a template for the plain threads", setting)?;
    for (callers, goal) in [(1, 1.8), (options.callers, 1.0)] {
        let meter = daemon.meter();
        let compared = throughput::compare(options, callers, &setting, &api, &meter, progress).await?;
        ratios.push(
            Row::median(format!("cycles of {callers} caller(s) relative to plain"), &compared.ratios, "x")
                .at_least(goal),
        );
        ratios.push(Row::median("  relative to plain copies of the sealed template", &compared.ratios_sealed, "x"));
        rows.push(Row::median(format!("cycles, {callers} x pgdibs"), &compared.pgdibs, "per s"));
        for (variant, rates) in &compared.plain {
            rows.push(Row::median(format!("cycles, {callers} x plain Postgres, {}", variant.name()), rates, "per s"));
        }
        let longest = compared.waits.percentile(100) / compared.waits.percentile(50);
        rows.push(Row::median("  acquire under this load", &compared.waits, "ms"));
        rows.push(Row::single("  longest acquire relative to the median", longest, "x").at_most(5.0));
        rows.push(Row::median("  first connection under this load", &compared.connects, "ms").at_most(15.0));
        if !compared.processor.pgdibs.all().is_empty() {
            let (pgdibs, plain) = (&compared.processor.pgdibs, &compared.processor.plain);
            rows.push(Row::median("  processor of server and daemon, pgdibs", pgdibs, "ms/cycle"));
            rows.push(Row::median("  processor of the server, better plain one", plain, "ms/cycle"));
        }
    }

    progress(format!("cloning {} databases at the second daemon", options.ready));
    let sizes = scale::acquire(&api, &many, options.ready).await?;
    let what = format!("acquire with {} ready relative to 20", options.ready);
    ratios.push(Row::median(what, &sizes.ratios, "x").at_most(1.2));
    rows.push(Row::median("acquire with 20 ready", &sizes.few, "ms"));
    rows.push(Row::median(format!("acquire with {} ready", options.ready), &sizes.many, "ms"));
    let status = scale::status(&many).await?;
    rows.push(Row::median(format!("GET /v1/status with {} databases", options.ready), &status, "ms").at_most(20.0));
    progress("resting".to_owned());
    if let Some((of_daemon, of_server)) = scale::at_rest(&second.meter()).await {
        rows.push(
            Row::single(format!("daemon at rest with {} databases", options.ready), of_daemon, "% of a core")
                .at_most(0.1),
        );
        rows.push(Row::single("  its server", of_server, "% of a core").at_most(1.0));
    }
    progress(format!("{} callers wait for one database", options.waiters));
    let waiters = scale::wait(&api, options.waiters as usize, || daemon.resident_bytes()).await?;
    let what = format!("release until the next of {} waiters has it", options.waiters);
    rows.push(Row::median(what, &waiters.wake_ups, "ms").at_most(5.0));
    match waiters.resident_bytes {
        Some(bytes) => {
            rows.push(Row::single("  memory of the daemon meanwhile (RSS)", bytes as f64 / 1e6, "MB").at_most(60.0))
        }
        None => progress("no memory of the daemon: this system has no /proc".to_owned()),
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let about = json!({
        "postgres": version, "template_bytes": template.size_bytes, "cpus": cpus, "callers": options.callers,
        "rounds": options.rounds, "seconds": options.seconds, "ready": options.ready, "waiters": options.waiters,
    });
    let title = format!(
        "Postgres {version}, template of 50 tables and {:.1} MB, {cpus} CPUs",
        template.size_bytes as f64 / 1e6,
    );
    Ok(Results { title, ratios, rows, about })
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
