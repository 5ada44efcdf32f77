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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::Mutex;
    use pgdibs_core::lease::LeaseId;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The line of an event without its time, as the daemon writes it.
    fn logged(event: &Event, json: bool) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let builder = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
        let builder = builder.with_max_level(Level::DEBUG).with_writer(move || writer.clone());
        let write = || write(event);
        match json {
            true => tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), write),
            false => tracing::subscriber::with_default(builder.finish(), write),
        }
        String::from_utf8(buffer.0.lock().clone()).unwrap().trim().to_owned()
    }

    fn example(kind: EventKind) -> Event {
        let pool = PoolName::parse("myapp_test").unwrap();
        let text = |text: &str| Some(text.to_owned());
        let of_pool = Event::of_pool(kind, &pool);
        let of_template = Event { template: text("4f2a9c"), ..of_pool.clone() };
        let of_database = Event { database: text("myapp_test_gw0"), ..of_template.clone() };
        let of_caller = |event: Event| Event { run: text("7f3c"), worker: text("gw0"), holder: text("ci-7"), ..event };
        let of_lease = Event { lease: Some(LeaseId::from_u128(0x192 << 112)), ..of_caller(of_database.clone()) };
        let took = |event: Event, milliseconds| event.taking(Duration::from_millis(milliseconds));
        match kind {
            EventKind::LeaseGranted => took(of_lease, 0),
            EventKind::LeaseRenewedLate => took(of_lease, 2300),
            EventKind::LeaseReset => took(of_lease, 12),
            EventKind::LeaseKept => {
                took(Event { database: text("myapp_test_kept_7"), ..of_lease }, 3_600_000).because("test_refund failed")
            }
            EventKind::LeaseReleased => took(of_lease, 4120).because("released by its holder"),
            EventKind::LeaseExpired => took(of_lease, 61_002).because("not renewed for 60 s"),
            EventKind::LeaseRevoked => took(of_lease, 900).because("its pool was dropped"),
            EventKind::WaitBegun => of_caller(of_template).because("no database is free"),
            EventKind::WaitEnded => took(of_caller(of_template), 94).because("granted"),
            EventKind::TemplateBuilt => took(of_template, 4800),
            EventKind::TemplateFailed => {
                took(of_template, 310).because("the build failed at 003_orders.sql: relation \"order\" does not exist")
            }
            EventKind::TemplateRetired => {
                of_template.because("the pool has keep_templates others that are newer or current")
            }
            EventKind::DatabaseCloned => took(Event { database: text("myapp_test_spare_31"), ..of_database }, 41),
            EventKind::DatabaseDropped => took(Event { database: text("myapp_test_old_30"), ..of_database }, 18),
            EventKind::StepFailed => Event { database: text("myapp_test_old_30"), ..of_database }
                .because("Drop: out of shared memory (53200)"),
            EventKind::LeadershipChanged => Event::new(kind),
            EventKind::ServerLost => Event::new(kind).because("connection refused (127.0.0.1:5432)"),
            EventKind::ServerBack => took(Event::new(kind), 54_700),
            EventKind::SettingChanged => of_pool.because("warm = 8, max = 16"),
            EventKind::RunAdmitted => of_template.with_run("7f3c").because("8 workers"),
            EventKind::RunEnded => of_pool.with_run("7f3c").because("it held 8 leases"),
        }
    }

    /// `PGDIBS_WRITE_DOCS=1` writes the lines into the page.
    #[test]
    fn page_shows_the_line_of_each_event() {
        let rows: Vec<String> = EventKind::ALL
            .iter()
            .map(|&kind| format!("| `{}` | `{}` |\n", kind.as_str(), logged(&example(kind), false)))
            .collect();
        let json = logged(&example(EventKind::LeaseExpired), true);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/logging.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (head, rest) = page.split_once("| kind | example |\n|---|---|\n").unwrap();
        let (_, rest) = rest.split_once("\n\n").unwrap();
        let (middle, rest) = rest.split_once("```json\n").unwrap();
        let (_, tail) = rest.split_once("\n```").unwrap();
        let rows = rows.concat();
        let generated = format!("{head}| kind | example |\n|---|---|\n{rows}\n{middle}```json\n{json}\n```{tail}");
        if std::env::var_os("PGDIBS_WRITE_DOCS").is_some() {
            std::fs::write(path, &generated).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == generated,
            "docs/logging.md is stale: PGDIBS_WRITE_DOCS=1 writes it; it should be\n{generated}"
        );
    }
}
