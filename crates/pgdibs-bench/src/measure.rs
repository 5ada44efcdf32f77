//! The run: starts a daemon and an embedded server of its own, measures them as callers see them, stops them.

use serde_json::json;

use crate::api::Api;
use crate::args::Options;
use crate::daemon::BenchDaemon;
use crate::error::{BenchError, while_doing};
use crate::report::{Report, Row};
use crate::{latency, template, throughput};

/// Starts a daemon, measures, stops it. `tell` hears what is going on.
///
/// # Errors
/// When something did not work.
pub(crate) async fn run(options: &Options, tell: impl Fn(String)) -> Result<Report, BenchError> {
    tell("starting a daemon and its server".to_owned());
    let mut daemon = BenchDaemon::start(options)?;
    let report = tokio::select! {
        report = measure(options, &mut daemon, &tell) => report,
        () = interrupted() => Err(BenchError::Daemon("was stopped, because the benchmark was interrupted".to_owned())),
    };
    tell("stopping the daemon and its server".to_owned());
    daemon.stop().await;
    report
}

async fn measure(options: &Options, daemon: &mut BenchDaemon, tell: &impl Fn(String)) -> Result<Report, BenchError> {
    let api = Api::new(daemon.url())?;
    daemon.wait_until_ready(&api).await?;
    let superuser = while_doing("its address", pgdibs_embedded::superuser_url(daemon.data_dir()))?;
    let version = while_doing("its version", crate::plain::server_version(&superuser).await)?;
    tell("building the template of 50 tables".to_owned());
    let template = template::build(&api).await?;

    tell("acquiring from a warm pool".to_owned());
    let acquire = latency::acquire(&api).await?;
    tell("returning with a live dirty session".to_owned());
    let returns = latency::give_back(&api).await?;
    let compared = throughput::compare(options, &api, &superuser, &template, &daemon.meter(), tell).await?;
    let resident = daemon.resident_bytes();

    let mut rows = vec![
        Row::at_most("acquire from a warm pool, p50", acquire.percentile(50), "ms", 1.0),
        Row::shown("acquire from a warm pool, p95", acquire.percentile(95), "ms"),
        Row::at_most("return to clean and connectable, p50", returns.total.percentile(50), "ms", 10.0),
        Row::shown("return to clean and connectable, p95", returns.total.percentile(95), "ms"),
        Row::shown("  of it: release answered, p50", returns.released.percentile(50), "ms"),
        Row::shown("  of it: same name acquired, p50", returns.acquired.percentile(50), "ms"),
        Row::shown("  after it: connected and seen clean, p50", returns.connected.percentile(50), "ms"),
        Row::shown(&format!("{} callers with pgdibs", options.callers), compared.pgdibs.percentile(50), "cycles/s"),
    ];
    for (way, rates) in &compared.plain {
        let what = format!("{} threads of plain Postgres, {}", options.callers, way.shown());
        rows.push(Row::shown(&what, rates.percentile(50), "cycles/s"));
    }
    rows.push(Row::at_least("pgdibs against the better plain one, median", compared.ratios.percentile(50), "x", 0.9));
    let sealed = compared.ratios_sealed.percentile(50);
    rows.push(Row::shown("  against a plain copy of pgdibs's sealed template", sealed, "x"));
    if !compared.processor.pgdibs.all().is_empty() {
        let (ours, plain) = (&compared.processor.pgdibs, &compared.processor.plain);
        rows.push(Row::shown("  processor of server and daemon, pgdibs", ours.percentile(50), "ms/cycle"));
        rows.push(Row::shown("  processor of the server, better plain one", plain.percentile(50), "ms/cycle"));
    }
    match resident {
        Some(bytes) => rows.push(Row::at_most("memory of the daemon (RSS)", bytes as f64 / 1e6, "MB", 40.0)),
        None => tell("this system does not say how much memory the daemon has".to_owned()),
    }
    let about = json!({
        "postgres": version, "template_bytes": template.size_bytes, "callers": options.callers, "rounds": options.rounds,
        "seconds": options.seconds, "ratios": compared.ratios.all(), "pgdibs_cycles": compared.pgdibs.all(),
        "plain_cycles": compared.plain.iter().map(|(way, rates)| (way.shown(), rates.all())).collect::<std::collections::BTreeMap<_, _>>(),
        "acquires": acquire.all().len(), "returns": returns.total.all().len(),
    });
    let title = format!(
        "Postgres {version}, template of 50 tables and {:.1} MB, {} CPUs",
        template.size_bytes as f64 / 1e6,
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    Ok(Report { title, rows, about })
}

/// Resolves when somebody wants the benchmark to end; its daemon and data are then cleared away first.
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
