//! Events: one value for each thing that happened, from which the log, `GET /v1/events` and the other daemons are fed.

use std::time::Duration;

use crate::database::Database;
use crate::lease::{End, Lease, LeaseId};
use crate::name::PoolName;
use crate::plan::Step;
use crate::snapshot::Snapshot;
use crate::template::Template;
use crate::text_enum::text_enum;

/// What happened. There are no other kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// A caller got a lease; `seconds` is how long it waited.
    LeaseGranted,
    /// A renewal came after the lease's time to live was over; `seconds` is how long after. A session of the holder, or luck, kept the lease.
    LeaseRenewedLate,
    /// A live lease has a fresh database; `seconds` is how long the exchange took.
    LeaseReset,
    /// The database of a lease will be kept when it leaves its slot; `database` is the name that it gets then, `seconds` for how long.
    LeaseKept,
    /// The holder, or the end of its run, ended a lease; `seconds` is how long it was held.
    LeaseReleased,
    /// A lease was not renewed in time; `seconds` is how long it was held.
    LeaseExpired,
    /// An operator, or the loss of its database, ended a lease; `seconds` is how long it was held.
    LeaseRevoked,
    /// No database was free for a request, which waits.
    WaitBegun,
    /// A wait ended; `seconds` is how long it took, `reason` how it ended.
    WaitEnded,
    /// A template was sealed and published; `seconds` is the time since its build began.
    TemplateBuilt,
    /// A build failed.
    TemplateFailed,
    /// A template gives no more databases and is dropped.
    TemplateRetired,
    /// A clone of a template was made; `seconds` is how long that took.
    DatabaseCloned,
    /// A database was dropped; `seconds` is how long that took.
    DatabaseDropped,
    /// A step of the reconciler failed; it is tried again later.
    StepFailed,
    /// Another daemon carries out the steps from now on: the one that reports it.
    LeadershipChanged,
    /// A daemon does not reach the server.
    ServerLost,
    /// A daemon reaches the server again; `seconds` is how long it did not.
    ServerBack,
    /// A pool was made, or its settings were changed; `reason` names them.
    SettingChanged,
    /// A run announced what it needs.
    RunAdmitted,
    /// A run ended; `reason` says how many leases it had.
    RunEnded,
}

text_enum!(EventKind {
    LeaseGranted = "lease_granted",
    LeaseRenewedLate = "lease_renewed_late",
    LeaseReset = "lease_reset",
    LeaseKept = "lease_kept",
    LeaseReleased = "lease_released",
    LeaseExpired = "lease_expired",
    LeaseRevoked = "lease_revoked",
    WaitBegun = "wait_begun",
    WaitEnded = "wait_ended",
    TemplateBuilt = "template_built",
    TemplateFailed = "template_failed",
    TemplateRetired = "template_retired",
    DatabaseCloned = "database_cloned",
    DatabaseDropped = "database_dropped",
    StepFailed = "step_failed",
    LeadershipChanged = "leadership_changed",
    ServerLost = "server_lost",
    ServerBack = "server_back",
    SettingChanged = "setting_changed",
    RunAdmitted = "run_admitted",
    RunEnded = "run_ended",
});

impl EventKind {
    /// The kind of a lease's end.
    #[must_use]
    pub fn of_end(end: End) -> Self {
        match end {
            End::Released => Self::LeaseReleased,
            End::Expired => Self::LeaseExpired,
            End::Revoked => Self::LeaseRevoked,
        }
    }
}

/// Characters of a reason. The whole output of a failed build is at the template's log.
const LONGEST_REASON: usize = 500;

/// One thing that happened: its kind, what and whom it concerns, how long it took and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The pool; `None` when the event concerns the daemon or the server.
    pub pool: Option<PoolName>,
    /// The lease.
    pub lease: Option<LeaseId>,
    /// The test session.
    pub run: Option<String>,
    /// The name of the database at that moment.
    pub database: Option<String>,
    /// The fingerprint of the template.
    pub template: Option<String>,
    /// The worker.
    pub worker: Option<String>,
    /// The label of the holder or builder.
    pub holder: Option<String>,
    /// See the kind.
    pub seconds: Option<f64>,
    /// Why, for display.
    pub reason: Option<String>,
}

impl Event {
    /// An event of this kind that concerns nothing yet.
    #[must_use]
    pub fn new(kind: EventKind) -> Self {
        Self {
            kind,
            pool: None,
            lease: None,
            run: None,
            database: None,
            template: None,
            worker: None,
            holder: None,
            seconds: None,
            reason: None,
        }
    }

    /// An event of a pool.
    #[must_use]
    pub fn of_pool(kind: EventKind, pool: &PoolName) -> Self {
        Self { pool: Some(pool.clone()), ..Self::new(kind) }
    }

    /// An event of a lease.
    #[must_use]
    pub fn of_lease(kind: EventKind, lease: &Lease) -> Self {
        Self {
            lease: Some(lease.id),
            run: lease.run.clone(),
            database: Some(lease.database_name.clone()),
            template: Some(lease.fingerprint.to_string()),
            worker: lease.worker.clone(),
            holder: Some(lease.holder.clone()).filter(|holder| !holder.is_empty()),
            ..Self::of_pool(kind, &lease.pool)
        }
    }

    /// An event of a template.
    #[must_use]
    pub fn of_template(kind: EventKind, template: &Template) -> Self {
        Self {
            template: Some(template.fingerprint.to_string()),
            database: Some(template.name.to_string()),
            holder: Some(template.holder.clone()).filter(|holder| !holder.is_empty()),
            ..Self::of_pool(kind, &template.pool)
        }
    }

    /// An event of a database, and of the template that it is a clone of.
    #[must_use]
    pub fn of_database(kind: EventKind, database: &Database, snapshot: &Snapshot) -> Self {
        Self {
            database: Some(database.name.to_string()),
            template: snapshot.template(database.template).map(|template| template.fingerprint.to_string()),
            ..Self::of_pool(kind, &database.pool)
        }
    }

    /// An event of what a step works on.
    #[must_use]
    pub fn of_step(kind: EventKind, step: &Step, snapshot: &Snapshot) -> Self {
        if let Step::EndLease { lease: id, .. } | Step::Reset { lease: id, .. } = step
            && let Some(lease) = snapshot.leases.iter().find(|lease| lease.id == *id)
        {
            return Self::of_lease(kind, lease);
        }
        let database = step.database().and_then(|id| snapshot.database(id));
        let template = match step {
            Step::NewDatabases { template, .. } => Some(*template),
            _ => step.template(),
        };
        let template = template.and_then(|id| snapshot.template(id));
        match (database, template, step) {
            (Some(database), ..) => Self::of_database(kind, database, snapshot),
            (None, Some(template), _) => Self::of_template(kind, template),
            (None, None, Step::ForgetPool { pool }) => Self::of_pool(kind, pool),
            (None, None, _) => Self::new(kind),
        }
    }

    /// The same, of a run.
    #[must_use]
    pub fn with_run(self, run: &str) -> Self {
        Self { run: Some(run.to_owned()), ..self }
    }

    /// The same, of a template.
    #[must_use]
    pub fn with_template(self, fingerprint: &str) -> Self {
        Self { template: Some(fingerprint.to_owned()), ..self }
    }

    /// The same, with how long it took, in microseconds: more digits say nothing.
    #[must_use]
    pub fn taking(self, time: Duration) -> Self {
        Self { seconds: Some((time.as_secs_f64() * 1e6).round() / 1e6), ..self }
    }

    /// The same, with the reason, shortened and without secrets: the output of a builder's tool may have its URL in it.
    #[must_use]
    pub fn because(self, reason: &str) -> Self {
        let reason = without_secrets(reason);
        let mut short: String = reason.chars().take(LONGEST_REASON).collect();
        if short.len() < reason.len() {
            short.push('…');
        }
        Self { reason: Some(short), ..self }
    }
}

/// The text with `********` for each password and token of pgdibs: these are `pgdibs`, two letters that say what it is, and at least 16
/// hexadecimal digits.
fn without_secrets(text: &str) -> String {
    const MARK: &str = "pgdibs";
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(MARK) {
        let after = &rest[start + MARK.len()..];
        let letters = after.chars().take(2).filter(char::is_ascii_lowercase).count();
        let digits = after[letters..].chars().take_while(char::is_ascii_hexdigit).count();
        let is_secret = letters == 2 && digits >= 16;
        masked.push_str(&rest[..start]);
        masked.push_str(if is_secret { "********" } else { MARK });
        rest = if is_secret { &after[letters + digits..] } else { after };
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_has_no_secrets_of_pgdibs() {
        let digits = "0123456789abcdef".repeat(4);
        for kind in ["pw", "bt"] {
            let url = format!("postgresql://pgdibs_l_7:pgdibs{kind}{digits}@db:5433/pgdibs_build_7, and pgdibspw");
            let event = Event::new(EventKind::TemplateFailed).because(&url);
            let expected = "postgresql://pgdibs_l_7:********@db:5433/pgdibs_build_7, and pgdibspw";
            assert_eq!(event.reason.as_deref(), Some(expected));
        }
    }

    #[test]
    fn reason_is_shortened_at_a_character() {
        let event = Event::new(EventKind::StepFailed);
        assert_eq!(event.clone().because("a").reason.as_deref(), Some("a"));
        let long = event.because(&"ä".repeat(LONGEST_REASON + 1)).reason.unwrap_or_default();
        assert_eq!(long, format!("{}…", "ä".repeat(LONGEST_REASON)));
    }

    #[test]
    fn end_of_a_lease_has_the_kind_of_its_state() {
        let kinds = [End::Released, End::Expired, End::Revoked].map(|end| EventKind::of_end(end).as_str());
        assert_eq!(kinds, ["lease_released", "lease_expired", "lease_revoked"]);
        assert_eq!(EventKind::of_end(End::Expired), EventKind::parse("lease_expired").unwrap_or(EventKind::RunEnded));
    }

    #[test]
    fn time_is_rounded_to_microseconds() {
        let event = Event::new(EventKind::DatabaseCloned).taking(Duration::from_nanos(1_234_567_891));
        assert_eq!(event.seconds, Some(1.234_568));
    }
}
