//! The state of a `database` source: when its schema is read, and the text that changes with it.

use std::time::{Duration, Instant, SystemTime};

use pgdibs_core::error::Error;
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::source_database::SourceSchema;

/// The write counters that announce a change may be late by some seconds, and a session that stays open reports some of them at its end only.
const READ_AGAIN: Duration = Duration::from_secs(15);

/// Reading takes at most this part of the time: a large schema that is written to takes a fraction of a second each time.
const READING_SHARE: u32 = 20;

#[derive(Debug, Clone, Default)]
pub(super) struct SourceDatabase {
    schema: Option<SourceSchema>,
    read: Option<(Instant, Duration)>,
    error: Option<String>,
}

impl SourceDatabase {
    /// Reads the schema if it may have changed. After an error the last schema counts.
    pub(super) async fn read(mut self, backend: &PgBackend, database: &str) -> Self {
        let begun = Instant::now();
        let (age, took) = self.read.map_or((Duration::MAX, Duration::ZERO), |(at, took)| (at.elapsed(), took));
        if self.error.is_none() && age < took * READING_SHARE {
            return self;
        }
        match backend.source_schema(database, self.schema.as_ref().filter(|_| age < READ_AGAIN)).await {
            Ok(schema) if self.schema.as_ref() == Some(&schema) && age < READ_AGAIN => self.error = None,
            Ok(schema) => {
                self.read = Some((Instant::now(), begun.elapsed()));
                self.error = None;
                self.schema = Some(schema);
            }
            Err(Error::DatabaseNotFound(why)) => (self.schema, self.error) = (None, Some(why)),
            Err(error) if self.schema.is_none() => self.error = Some(error.to_string()),
            Err(error) => tracing::debug!(%database, %error, "cannot read the schema of a source again"),
        }
        self
    }

    /// A text that changes with the schema, and at each multiple of `refresh` since 1970. The error is that of the last attempt to read the
    /// schema, `None` before the first one.
    pub(super) fn digest(&self, refresh: Option<Duration>) -> Result<String, Option<String>> {
        let Some(schema) = &self.schema else { return Err(self.error.clone()) };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(format!("{} {}", schema.digest(), copy_number(refresh, now)))
    }
}

/// The number of the copy at `now`, since 1970. It is the same for every daemon, and after a restart.
fn copy_number(refresh: Option<Duration>, now: Duration) -> u64 {
    refresh.map_or(0, |refresh| now.as_secs() / refresh.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_number_increases_at_multiples_of_the_interval() {
        let at = |refresh: u64, now| copy_number(Some(Duration::from_secs(refresh)), Duration::from_secs(now));
        assert_eq!((at(86_400, 86_399), at(86_400, 86_400), at(86_400, 172_799)), (0, 1, 1));
        assert_eq!(copy_number(None, Duration::from_secs(1_700_000_000)), 0);
    }
}
