//! The form of the doctor's findings.

use std::fmt;

use crate::sqlstate;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It costs a little, or may surprise.
    Note,
    /// It costs much time, or breaks a run under load.
    Warning,
    /// Runs fail.
    Error,
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that the doctor found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A name that stays the same between versions, such as `fsync`.
    pub check: &'static str,
    pub severity: Severity,
    /// What is there, what tests want, and why.
    pub text: String,
    /// What it costs on this server now, where that was measured.
    pub cost: Option<String>,
    /// The exact line that changes it.
    pub fix: Option<String>,
}

impl Finding {
    pub fn new(check: &'static str, severity: Severity, text: impl Into<String>) -> Self {
        Self { check, severity, text: text.into(), cost: None, fix: None }
    }

    pub(super) fn costing(self, cost: Option<String>) -> Self {
        Self { cost, ..self }
    }

    pub(super) fn mended_by(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// The finding in one line, without its severity.
    #[must_use]
    pub fn sentence(&self) -> String {
        let cost = self.cost.as_ref().map_or(String::new(), |cost| format!("; {cost}"));
        let fix = self.fix.as_ref().map_or(String::new(), |fix| format!("; run: {fix}"));
        format!("{}{cost}{fix}", self.text)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.severity.as_str(), self.sentence())
    }
}

/// A check that could not look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSeen {
    pub check: &'static str,
    pub why: String,
}

/// Everything that the doctor found, the worst first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examination {
    pub findings: Vec<Finding>,
    pub not_seen: Vec<NotSeen>,
    /// The server's major version, once it was read.
    pub major: Option<u32>,
}

/// The checks of a server. A server that cannot be examined lists them as not seen.
const CHECKS: &[&str] = &[
    "rights",
    "public",
    "version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "shared_buffers",
    "autovacuum",
    "autovacuum_naptime",
    "max_wal_size",
    "checkpoint_timeout",
    "log_checkpoints",
    "data_checksums",
    "connections",
    "locks",
    "disk",
    "reflink",
    "orphans",
    "collations",
    "blockers",
    "workers",
    "daemons",
    "runs",
    "clock",
    "leftovers",
];

impl Examination {
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub fn not_seen(&mut self, check: &'static str, why: impl Into<String>) {
        self.not_seen.push(NotSeen { check, why: why.into() });
    }

    /// Notes why a part failed, for its checks.
    pub(super) fn unless(&mut self, checks: &[&'static str], done: Result<(), sqlx::Error>) {
        if let Err(error) = done {
            checks.iter().for_each(|check| self.not_seen(check, sqlstate::sentence(&error)));
        }
    }

    /// Notes the same reason for every check that has no result, also for those that had found nothing.
    pub(super) fn none_seen(&mut self, why: &str) {
        let known = |check: &str| {
            self.findings.iter().any(|finding| finding.check == check)
                || self.not_seen.iter().any(|not| not.check == check)
        };
        let rest: Vec<&'static str> = CHECKS.iter().copied().filter(|check| !known(check)).collect();
        rest.into_iter().for_each(|check| self.not_seen(check, why));
    }

    /// The worst first; those of one severity stay in their order.
    pub fn sort(&mut self) {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }

    /// The severity of the worst finding.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}
