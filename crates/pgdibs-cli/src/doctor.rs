//! `pgdibs doctor`: what of a server slows tests down or breaks them, and the lines that change it.

mod programs;
mod variables;

use std::collections::BTreeMap;

use pgdibs_server::config::{Config, ServeFlags};
use pgdibs_server::offline::{self, Environment, Examination, Finding, Processes, SearchRoots, Severity};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::args::DoctorArgs;
use super::context::Context;
use super::error::CliError;
use super::progress::Progress;
use super::signals::{self, Signals};
use super::table::plain;

/// The exit code when the worst finding is a warning. 1 stands for an error and for a failure, 2 for a wrong command line.
const WARNED: u8 = 3;

/// Examines the server and the environment; returns the exit code.
///
/// # Errors
/// No server is configured, and none runs.
pub(super) async fn doctor(context: &Context, args: DoctorArgs) -> Result<u8, CliError> {
    let flags = args.server_url.iter().fold(ServeFlags::default(), |flags, url| flags.with("server_url", url.clone()));
    let config = context.load_for_client(flags)?;
    let url = server(&config)?;
    // Caught before the first probe, so that an interruption drops the probe's database.
    let mut signals = Signals::catch()?;
    let progress = Progress::start("examining the server");
    let environment = Environment::of_this_machine(config.disk_floor_bytes());
    let mut report = tokio::select! {
        report = offline::examine(&url, &environment) => report,
        received = signals.next() => {
            drop(progress);
            offline::remove_probes(&url).await.map_err(|error| CliError::failed(error.to_string()))?;
            return Ok(signals::exit_code_of(received.signal as i32));
        }
    };
    drop(progress);
    if let Some(finding) = variables::two_databases(|name| std::env::var(name).ok()) {
        report.add(finding);
    }
    match report.major {
        Some(major) => {
            let roots = SearchRoots::of_this_system();
            programs::unfit(major, config.pg_bin_dir.as_deref(), &roots)
                .into_iter()
                .for_each(|finding| report.add(finding));
        }
        None => report.not_seen("programs", "the version of the server is not known"),
    }
    report.sort();
    context.output.result(&as_json(&report), || as_text(&report))?;
    Ok(match report.worst() {
        Some(Severity::Error) => super::error::FAILED,
        Some(Severity::Warning) => WARNED,
        Some(Severity::Note) | None => 0,
    })
}

/// The configured server, or the embedded one that runs.
fn server(config: &Config) -> Result<SecretString, CliError> {
    if let Some(url) = &config.server_url {
        return Ok(url.clone());
    }
    let failed = |error: offline::EmbeddedError| CliError::failed(error.to_string());
    let data_dir = offline::data_dir(config.data_dir.as_deref()).map_err(failed)?;
    if Processes::of(&data_dir).map_err(failed)?.supervisor.is_none() {
        return Err(CliError::failed(format!(
            "no server is configured, and the embedded one in {} does not run",
            data_dir.display()
        ))
        .hint("name a server with --server-url or PGDIBS_SERVER_URL, or start the embedded one with `pgdibs serve`"));
    }
    offline::superuser_url(&data_dir).map_err(failed)
}

fn as_json(report: &Examination) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "check": finding.check, "severity": finding.severity.as_str(), "text": finding.text, "cost": finding.cost, "fix": finding.fix,
        })
    };
    json!({
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "not_seen": report.not_seen.iter().map(|not| json!({"check": not.check, "why": not.why})).collect::<Vec<_>>(),
    })
}

fn as_text(report: &Examination) -> String {
    let findings = report.findings.iter().map(|finding| in_lines(&finding.to_string()));
    let mut unseen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for not in &report.not_seen {
        unseen.entry(&not.why).or_default().push(not.check);
    }
    let not_seen = unseen.iter().map(|(why, checks)| in_lines(&format!("not seen: {}: {why}", checks.join(", "))));
    let mut lines: Vec<String> = findings.chain(not_seen).collect();
    if report.findings.is_empty() {
        lines.insert(0, "nothing found that tests would suffer from".to_owned());
    }
    lines.join("\n")
}

/// Names of databases and roles may have characters that control a terminal.
fn in_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}
