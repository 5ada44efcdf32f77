//! Orphan directories: what a crash in the middle of a `create database` leaves below `base/`, for ever. They are reported and
//! never removed: that is a thing to do with the server stopped.

use pgdibs_core::error::Error;

use crate::context::{PgBackend, Suspects, answer};
use crate::rights::Rights;

/// Keeps those that are still there, adds new ones, and returns the orphans among them. `seen` is what belongs to no database
/// now; `oldest` is the oldest transaction that was under way then, `next` a number that came after all of them.
fn judge(suspects: &mut Suspects, seen: &[u32], oldest: i64, next: i64) -> Vec<u32> {
    suspects.retain(|oid, _| seen.contains(oid));
    for &oid in seen {
        suspects.entry(oid).or_insert(next);
    }
    suspects.iter().filter(|(_, since)| oldest >= **since).map(|(&oid, _)| oid).collect()
}

impl PgBackend {
    /// The orphans, by the numbers that are their names. `None` when our role may not look: only a superuser may.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn orphans(&self) -> Result<Option<Vec<u32>>, Error> {
        self.within(self.find_orphans()).await
    }

    async fn find_orphans(&self) -> Result<Option<Vec<u32>>, Error> {
        if self.connections.facts.rights != Rights::Superuser {
            return Ok(None);
        }
        let mut suspects = self.suspects.lock().await;
        let rows: Vec<(i64, i64)> = answer(
            sqlx::query_as(
                "select d::int8, pg_snapshot_xmin(pg_current_snapshot())::text::int8 from pg_ls_dir('base') d
                 where d ~ '^[0-9]+$' and not exists (select from pg_database p where p.oid = d::oid)",
            )
            .fetch_all(&self.connections.catalog)
            .await,
        )?;
        let oldest = rows.first().map_or(0, |(_, oldest)| *oldest);
        let seen: Vec<u32> = rows.iter().filter_map(|(oid, _)| u32::try_from(*oid).ok()).collect();
        // A number of our own: what a snapshot calls the next one may be under way.
        let next = if seen.iter().all(|oid| suspects.contains_key(oid)) {
            0
        } else {
            let own = sqlx::query_scalar("select pg_current_xact_id()::text::int8");
            answer(own.fetch_one(&self.connections.catalog).await)?
        };
        Ok(Some(judge(&mut suspects, &seen, oldest, next)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_an_orphan_when_whoever_could_have_made_it_is_done() {
        let mut suspects = Suspects::new();
        assert_eq!(judge(&mut suspects, &[7], 90, 100), Vec::<u32>::new(), "a clone may be under way");
        assert_eq!(judge(&mut suspects, &[7, 8], 95, 110), Vec::<u32>::new(), "and still");
        assert_eq!(judge(&mut suspects, &[7, 8], 105, 120), [7], "all those are done, and its row has not come");
        assert_eq!(judge(&mut suspects, &[7], 130, 130), [7], "the other one has become a database");
        assert_eq!(judge(&mut suspects, &[], 0, 0), Vec::<u32>::new(), "somebody has removed it");
    }
}
