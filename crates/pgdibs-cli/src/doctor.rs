//! `pgdibs doctor`: what of a server slows tests down or breaks them, and the lines that change it.

use pgdibs_server::config::{Config, ServeFlags};
use pgdibs_server::offline::{self, Examination, Finding, Processes, Severity};
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
/// There is no server, or it does not answer.
pub(super) async fn doctor(context: &Context, args: DoctorArgs) -> Result<u8, CliError> {
    let flags = args.server_url.iter().fold(ServeFlags::default(), |flags, url| flags.with("server_url", url.clone()));
    let config = context.load_for_client(flags)?;
    let url = server(&config)?;
    // Caught before the first probe, so that an interruption drops the probe's database.
    let mut signals = Signals::catch()?;
    let progress = Progress::start("examining the server");
    let examined = tokio::select! {
        examined = offline::examine(&url) => examined,
        received = signals.next() => {
            drop(progress);
            offline::remove_probes(&url).await.map_err(|error| CliError::failed(error.to_string()))?;
            return Ok(signals::exit_code_of(received.signal as i32));
        }
    };
    drop(progress);
    let mut report = examined.map_err(|error| CliError::failed(format!("cannot examine the server: {error}")))?;
    if let Some(finding) = two_databases(|name| std::env::var(name).ok()) {
        report.add(finding);
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

/// Code that reads one of the two variables writes into another database than code that reads the other one.
fn two_databases(variable: impl Fn(&str) -> Option<String>) -> Option<Finding> {
    let value = |name| variable(name).filter(|value| !value.is_empty());
    let (one, other) = (value("DATABASE_URL")?, value("TEST_DATABASE_URL")?);
    (without_secrets(&one) != without_secrets(&other)).then(|| {
        Finding::new(
            "variables",
            Severity::Warning,
            format!(
                "DATABASE_URL ({}) and TEST_DATABASE_URL ({}) name different databases: a worker or a script of the tests that reads the other one writes to the wrong database; set both from the lease, as pgdibs's pytest plugin does",
                without_secrets(&one),
                without_secrets(&other)
            ),
        )
    })
}

/// Host, port and database: what decides where a connection leads.
fn without_secrets(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    plain(rest.rsplit_once('@').map_or(rest, |(_, place)| place))
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
    let findings = report.findings.iter().map(ToString::to_string);
    let not_seen = report.not_seen.iter().map(|not| format!("not seen: {}: {}", not.check, not.why));
    let mut lines: Vec<String> = findings.chain(not_seen).collect();
    if report.findings.is_empty() {
        lines.insert(0, "nothing found that tests would suffer from".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_urls_are_found_and_equal_ones_are_not() {
        let found = |one: &str, other: &str| {
            two_databases(|name| Some(if name == "DATABASE_URL" { one } else { other }.to_owned()))
                .map(|finding| finding.text)
        };
        let text =
            found("postgresql://u:secret@db:5432/app", "postgresql+asyncpg://u:secret@db:5432/app_test?x=1").unwrap();
        assert!(
            text.contains("(db:5432/app) and") && text.contains("(db:5432/app_test)") && !text.contains("secret"),
            "{text}"
        );
        assert_eq!(found("postgresql://u:p@db/app", "postgresql+psycopg://v:q@db/app?sslmode=disable"), None);
        assert_eq!(found("postgresql://u:p@db/app", ""), None);
    }
}
