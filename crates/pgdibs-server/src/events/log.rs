//! The log as a reader of events: one line for each event of this daemon. `docs/logging.md` shows them.

use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::name::PoolName;
use tracing::Level;

/// What happens for each test is for debugging; what a person may have to act on is a warning.
fn level(kind: EventKind) -> Level {
    match kind {
        EventKind::LeaseGranted
        | EventKind::LeaseReset
        | EventKind::LeaseReleased
        | EventKind::WaitBegun
        | EventKind::WaitEnded
        | EventKind::DatabaseCloned
        | EventKind::DatabaseDropped
        | EventKind::RunAdmitted
        | EventKind::RunEnded => Level::DEBUG,
        EventKind::LeaseKept
        | EventKind::LeaseExpired
        | EventKind::LeaseRevoked
        | EventKind::TemplateBuilt
        | EventKind::TemplateRetired
        | EventKind::LeadershipChanged
        | EventKind::ServerBack
        | EventKind::SettingChanged => Level::INFO,
        EventKind::LeaseRenewedLate | EventKind::TemplateFailed | EventKind::StepFailed | EventKind::ServerLost => {
            Level::WARN
        }
    }
}

fn message(kind: EventKind) -> &'static str {
    match kind {
        EventKind::LeaseGranted => "granted a lease",
        EventKind::LeaseRenewedLate => "a renewal came after the lease's time to live was over",
        EventKind::LeaseReset => "reset a lease",
        EventKind::LeaseKept => "keeping the database of a lease",
        EventKind::LeaseReleased => "a lease was released",
        EventKind::LeaseExpired => "a lease expired",
        EventKind::LeaseRevoked => "revoked a lease",
        EventKind::WaitBegun => "a caller waits for a database",
        EventKind::WaitEnded => "the wait of a caller ended",
        EventKind::TemplateBuilt => "built the template",
        EventKind::TemplateFailed => "cannot build the template",
        EventKind::TemplateRetired => "retired a template",
        EventKind::DatabaseCloned => "cloned a database",
        EventKind::DatabaseDropped => "dropped a database",
        EventKind::StepFailed => "a step failed; it is tried again later",
        EventKind::LeadershipChanged => "this daemon is the leader",
        EventKind::ServerLost => "the server is unreachable: callers get 503, and no lease ends until it is back",
        EventKind::ServerBack => "the server is back; every lease starts a full time to live",
        EventKind::SettingChanged => "the settings of a pool changed",
        EventKind::RunAdmitted => "a run announced what it needs",
        EventKind::RunEnded => "a run ended",
    }
}

macro_rules! line {
    ($level:ident, $event:ident) => {
        tracing::event!(
            Level::$level,
            event = $event.kind.as_str(),
            pool = $event.pool.as_ref().map(PoolName::as_str),
            lease = $event.lease.as_ref().map(tracing::field::display),
            run = $event.run.as_deref(),
            worker = $event.worker.as_deref(),
            holder = $event.holder.as_deref(),
            database = $event.database.as_deref(),
            template = $event.template.as_deref(),
            seconds = $event.seconds,
            reason = $event.reason.as_deref(),
            "{}",
            message($event.kind)
        )
    };
}

/// Writes the line of an event.
pub(super) fn write(event: &Event) {
    match level(event.kind) {
        Level::WARN => line!(WARN, event),
        Level::INFO => line!(INFO, event),
        _ => line!(DEBUG, event),
    }
}
