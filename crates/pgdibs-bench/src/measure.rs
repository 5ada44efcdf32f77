//! A run: starts a daemon and its embedded server, measures them, stops them.

use serde_json::json;

use crate::api::Api;
use crate::args::Options;
use crate::daemon::BenchDaemon;
use crate::error::{BenchError, context};
use crate::results::{Results, Row};
use crate::{latency, template, throughput};

/// Starts a daemon, measures, stops it. Calls `progress` at each stage.
///
/// # Errors
/// The daemon, a request or a measurement fails.
pub(crate) async fn run(options: &Options, progress: impl Fn(String)) -> Result<Results, BenchError> {
    progress("starting a daemon and its server".to_owned());
    let mut daemon = BenchDaemon::start(options)?;
    let report = tokio::select! {
        report = measure(options, &mut daemon, &progress) => report,
        () = interrupted() => Err(BenchError::Daemon("was stopped: the benchmark was interrupted".to_owned())),
    };
    progress("stopping the daemon and its server".to_owned());
    daemon.stop().await;
    report
}

async fn measure(
    options: &Options,
    daemon: &mut BenchDaemon,
    progress: &impl Fn(String),
) -> Result<Results, BenchError> {
    let api = Api::new(daemon.url())?;
    daemon.wait_until_ready(&api).await?;
    let superuser = context("its address", pgdibs_embedded::superuser_url(daemon.data_dir()))?;
    let version = context("its version", crate::plain::server_version(&superuser).await)?;
    progress("building the template of 50 tables".to_owned());
    let template = template::build(&api).await?;

    progress("acquiring from a warm pool".to_owned());
    let acquire = latency::acquire(&api).await?;
    progress("releasing with a connected session".to_owned());
    let returns = latency::release(&api).await?;
    let compared = throughput::compare(options, &api, &superuser, &template, &daemon.meter(), progress).await?;
    let resident = daemon.resident_bytes();

    let mut rows = vec![
        Row::at_most("acquire from a warm pool, p50", acquire.percentile(50), "ms", 1.0),
        Row::without_goal("acquire from a warm pool, p95", acquire.percentile(95), "ms"),
        Row::at_most("release until the name is leased again, p50", returns.total.percentile(50), "ms", 10.0),
        Row::without_goal("release until the name is leased again, p95", returns.total.percentile(95), "ms"),
        Row::without_goal("  of it: release answered, p50", returns.released.percentile(50), "ms"),
        Row::without_goal("  of it: same name acquired, p50", returns.acquired.percentile(50), "ms"),
        Row::without_goal("  after it: connected and checked, p50", returns.connected.percentile(50), "ms"),
        Row::without_goal(
            &format!("{} callers with pgdibs", options.callers),
            compared.pgdibs.percentile(50),
            "cycles/s",
        ),
    ];
    for (variant, rates) in &compared.plain {
        let what = format!("{} threads of plain Postgres, {}", options.callers, variant.name());
        rows.push(Row::without_goal(&what, rates.percentile(50), "cycles/s"));
    }
    rows.push(Row::at_least(
        "pgdibs relative to the better plain one, median",
        compared.ratios.percentile(50),
        "x",
        0.9,
    ));
    let sealed = compared.ratios_sealed.percentile(50);
    rows.push(Row::without_goal("  relative to plain copies of the sealed template", sealed, "x"));
    if !compared.processor.pgdibs.all().is_empty() {
        let (pgdibs, plain) = (&compared.processor.pgdibs, &compared.processor.plain);
        rows.push(Row::without_goal("  processor of server and daemon, pgdibs", pgdibs.percentile(50), "ms/cycle"));
        rows.push(Row::without_goal("  processor of the server, better plain one", plain.percentile(50), "ms/cycle"));
    }
    match resident {
        Some(bytes) => rows.push(Row::at_most("memory of the daemon (RSS)", bytes as f64 / 1e6, "MB", 40.0)),
        None => progress("no memory of the daemon: this system has no /proc".to_owned()),
    }
    let about = json!({
        "postgres": version, "template_bytes": template.size_bytes, "callers": options.callers, "rounds": options.rounds,
        "seconds": options.seconds, "ratios": compared.ratios.all(), "pgdibs_cycles": compared.pgdibs.all(),
        "plain_cycles": compared.plain.iter().map(|(variant, rates)| (variant.name(), rates.all())).collect::<std::collections::BTreeMap<_, _>>(),
        "acquires": acquire.all().len(), "returns": returns.total.all().len(),
    });
    let title = format!(
        "Postgres {version}, template of 50 tables and {:.1} MB, {} CPUs",
        template.size_bytes as f64 / 1e6,
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    Ok(Results { title, rows, about })
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
