//! Orphan directories: a crash in the middle of `create database` leaves them below `base/`. They are reported and never removed, because
//! only an administrator can remove them, with the server stopped.

use pgdibs_core::error::Error;

use sqlx::postgres::PgExecutor;

use crate::context::{PgBackend, Suspects};
use crate::rights::Rights;

/// Keeps the suspects that still exist, adds new ones, and returns the orphans among them. `seen`: the directories that belong to no
/// database; `oldest`: the oldest running transaction; `next`: a transaction number assigned after it.
fn judge(suspects: &mut Suspects, seen: &[u32], oldest: i64, next: i64) -> Vec<u32> {
    suspects.retain(|oid, _| seen.contains(oid));
    for &oid in seen {
        suspects.entry(oid).or_insert(next);
    }
    suspects.iter().filter(|(_, since)| oldest >= **since).map(|(&oid, _)| oid).collect()
}

/// The directories that belong to no database, each with the oldest running transaction, which may be making one.
pub(crate) async fn directories_without_database(server: impl PgExecutor<'_>) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select d::int8, pg_snapshot_xmin(pg_current_snapshot())::text::int8 from pg_ls_dir('base') d
         where d ~ '^[0-9]+$' and d::int8 not in (select oid::int8 from pg_database) order by 1",
    )
    .fetch_all(server)
    .await
}

impl PgBackend {
    /// The orphans, by the oids that are their names. `None` when the daemon's role may not list them: only a superuser may.
    pub async fn orphans(&self) -> Result<Option<Vec<u32>>, Error> {
        self.within(self.find_orphans()).await
    }

    async fn find_orphans(&self) -> Result<Option<Vec<u32>>, sqlx::Error> {
        if self.facts().rights != Rights::Superuser {
            return Ok(None);
        }
        let mut suspects = self.suspects.lock().await;
        let rows = directories_without_database(&self.catalog()).await?;
        let oldest = rows.first().map_or(0, |(_, oldest)| *oldest);
        let seen: Vec<u32> = rows.iter().filter_map(|(oid, _)| u32::try_from(*oid).ok()).collect();
        // Its own number: a transaction with the number that a snapshot calls the next one may be running.
        let next = if seen.iter().all(|oid| suspects.contains_key(oid)) {
            0
        } else {
            sqlx::query_scalar("select pg_current_xact_id()::text::int8").fetch_one(&self.catalog()).await?
        };
        Ok(Some(judge(&mut suspects, &seen, oldest, next)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_orphan_once_older_transactions_have_ended() {
        let mut suspects = Suspects::new();
        assert_eq!(judge(&mut suspects, &[7], 90, 100), Vec::<u32>::new(), "a clone may be running");
        assert_eq!(judge(&mut suspects, &[7, 8], 95, 110), Vec::<u32>::new(), "and still");
        assert_eq!(judge(&mut suspects, &[7, 8], 105, 120), [7], "those have ended, and no row has appeared");
        assert_eq!(judge(&mut suspects, &[7], 130, 130), [7], "the other one has become a database");
        assert_eq!(judge(&mut suspects, &[], 0, 0), Vec::<u32>::new(), "an administrator has removed it");
    }
}
