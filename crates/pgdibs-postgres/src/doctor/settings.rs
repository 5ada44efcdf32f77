//! The server's settings, beside those that a server for tests wants.

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::finding::{Examination, Finding, Severity};
use super::probe::Costs;
use crate::ddl;

/// A setting that costs something.
struct Rule {
    name: &'static str,
    severity: Severity,
    /// Of the value in the unit of `pg_settings`.
    costs: fn(&str) -> bool,
    /// What a server for tests has; empty when no statement sets it.
    wanted: &'static str,
    why: &'static str,
    cost: fn(&Costs) -> Option<String>,
}

fn number(value: &str) -> i64 {
    value.parse().unwrap_or(0)
}

const RULES: [Rule; 11] = [
    Rule {
        name: "fsync",
        severity: Severity::Warning,
        costs: |value| value == "on",
        wanted: "off",
        why: "each clone and each drop waits until hundreds of files are on the disk; only where a crash of the machine may lose the data",
        cost: Costs::of_clone,
    },
    Rule {
        name: "synchronous_commit",
        severity: Severity::Note,
        costs: |value| value != "off",
        wanted: "off",
        why: "each commit of a test waits for the disk",
        cost: Costs::of_commit,
    },
    Rule {
        name: "full_page_writes",
        severity: Severity::Note,
        costs: |value| value == "on",
        wanted: "off",
        why: "each drop is a checkpoint, after which the first change of a page writes the whole page to WAL",
        cost: Costs::of_checkpoint,
    },
    Rule {
        name: "wal_level",
        severity: Severity::Note,
        costs: |value| value == "logical",
        wanted: "replica",
        why: "it writes more WAL for each change, which only logical replication needs",
        cost: |_| None,
    },
    Rule {
        name: "shared_buffers",
        severity: Severity::Note,
        // In pages of 8 kB.
        costs: |value| number(value) > (1 << 30) / 8192,
        wanted: "512MB",
        why: "each drop and each checkpoint looks at every page of it",
        cost: Costs::of_checkpoint,
    },
    Rule {
        name: "autovacuum",
        severity: Severity::Note,
        costs: |value| value == "off",
        wanted: "on",
        why: "tables that tests fill get no statistics, so their queries may be planned badly",
        cost: |_| None,
    },
    Rule {
        name: "autovacuum_naptime",
        severity: Severity::Note,
        costs: |value| number(value) < 300,
        wanted: "5min",
        why: "a worker in a database delays its drop, and one starts in some database each time",
        cost: |_| None,
    },
    Rule {
        name: "max_wal_size",
        severity: Severity::Note,
        // In megabytes.
        costs: |value| number(value) < 1024,
        wanted: "1GB",
        why: "clones write WAL, and each time it reaches this size there is a checkpoint more",
        cost: Costs::of_checkpoint,
    },
    Rule {
        name: "checkpoint_timeout",
        severity: Severity::Note,
        costs: |value| number(value) < 300,
        wanted: "30min",
        why: "drops are checkpoints already, and more of them write pages that a drop would have thrown away",
        cost: Costs::of_checkpoint,
    },
    Rule {
        name: "log_checkpoints",
        severity: Severity::Note,
        costs: |value| value == "on",
        wanted: "off",
        why: "each drop writes two lines to the log",
        cost: |_| None,
    },
    Rule {
        name: "data_checksums",
        severity: Severity::Note,
        costs: |value| value == "on",
        wanted: "",
        why: "a page that is only read may have to be written to WAL after each drop; initdb --no-data-checksums, or pg_checksums --disable on the stopped server, ends that",
        cost: |_| None,
    },
];

pub(super) async fn examine(
    session: &mut PgConnection,
    costs: &Costs,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    let rows: Vec<PgRow> = sqlx::query(
        // `reset_val` is the server's own value, where sessions of pgdibs set another one.
        "select name, reset_val as setting, case when setting = reset_val then current_setting(name) else reset_val end as shown, context = 'postmaster' as needs_restart, context = 'internal' as fixed
         from pg_settings where name = any($1)",
    )
    .bind(&names)
    .fetch_all(session)
    .await?;
    for rule in &RULES {
        let Some(row) = rows.iter().find(|row| row.try_get("name").is_ok_and(|name: &str| name == rule.name)) else {
            continue;
        };
        if !(rule.costs)(row.try_get("setting")?) {
            continue;
        }
        let (shown, needs_restart): (&str, bool) = (row.try_get("shown")?, row.try_get("needs_restart")?);
        let wanted = if rule.wanted.is_empty() { "off" } else { rule.wanted };
        let text = format!("{} = {shown}, where a server for tests wants {wanted}: {}", rule.name, rule.why);
        let finding = Finding::new(rule.name, rule.severity, text).costing((rule.cost)(costs));
        report.add(match row.try_get("fixed")? {
            true => finding,
            false => finding.mended_by(ddl::shown_alter_system(rule.name, rule.wanted, needs_restart)),
        });
    }
    Ok(())
}
