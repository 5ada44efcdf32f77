//! The lock that a copy of a database waits for: pg_dump locks each table, and has no deadline of its own that would name the holder.

use std::time::{Duration, Instant};

use pgdibs_core::template::TemplateId;
use pgdibs_postgres::backend::PgBackend;
use pgdibs_sources::DatabaseCopy;

/// A copy waits for a lock as long as this.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The interval of the checks.
pub(super) const CHECK: Duration = Duration::from_millis(500);

/// A wait that was seen within this time counts as the cause of a timeout: pg_dump ends before the build does, which takes two seconds.
const RECENT: Duration = Duration::from_secs(4);

/// The application name of pg_dump's session, by which the daemon finds it.
pub(super) fn application_of_copy(template: TemplateId) -> String {
    format!("pgdibs-copy/{}", template.0)
}

/// The last wait that was seen.
#[derive(Debug, Default)]
pub(super) struct LockWait(Option<Seen>);

#[derive(Debug)]
struct Seen {
    since: Instant,
    last: Instant,
    /// The lock and its holder.
    lock: String,
}

impl LockWait {
    /// Looks for a wait; returns whether it has lasted too long.
    pub(super) async fn check(&mut self, backend: &PgBackend, copied: &DatabaseCopy) -> bool {
        let application = application_of_copy(TemplateId(copied.template));
        let Ok(Some(lock)) = backend.lock_wait(&copied.name, &application).await else { return false };
        let since = self.recent().map_or_else(Instant::now, |seen| seen.since);
        self.0 = Some(Seen { since, last: Instant::now(), lock });
        since.elapsed() >= TIMEOUT
    }

    /// Why a copy timed out, if it waited for a lock.
    pub(super) fn sentence(&self) -> Option<String> {
        let seen = self.recent()?;
        Some(format!("pg_dump waited {} s for {}", seen.since.elapsed().as_secs(), seen.lock))
    }

    fn recent(&self) -> Option<&Seen> {
        self.0.as_ref().filter(|seen| seen.last.elapsed() < RECENT)
    }
}
