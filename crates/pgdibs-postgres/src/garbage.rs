//! Housekeeping that no plan needs: deletes rows, logins and roles that have no use any more, vacuums catalogs, shifts times.

use std::time::Duration;

use pgdibs_core::error::{Error, StepError};
use pgdibs_core::name::RoleName;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::blockers;
use crate::connection_pool::ANSWER_TIMEOUT;
use crate::context::{Leadership, PgBackend, answer_within};
use crate::ddl;
use crate::error::Result;
use crate::rights::Rights;
use crate::sqlstate::{self, ErrorClass};
use crate::steps::drop::drop_logins;
use crate::steps::{StepContext, drop_unused_roles};

/// This many dead rows are worth a vacuum of a few milliseconds.
const DEAD_ROWS: i64 = 500;

impl PgBackend {
    /// Runs statements on leadership's connection, if this daemon leads. A failure loses leadership, since its session may have ended.
    async fn as_leader(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<()>,
    ) -> Result<(), Error> {
        let mut leadership = self.leadership.lock().await;
        let Some(Leadership { connection, .. }) = leadership.as_mut() else { return Ok(()) };
        let done = answer_within(limit, work(connection)).await;
        if done.is_err() {
            self.discard_leadership(&mut leadership).await;
        }
        Ok(done?)
    }

    /// Deletes old rows, tickets of dead daemons, and logins and roles that no row names.
    pub async fn collect_garbage(&self) -> Result<(), Error> {
        let collecting = self.as_leader(ANSWER_TIMEOUT, async |connection| {
            delete_old_rows(connection).await?;
            drop_unused_logins(self, connection).await?;
            Ok(drop_unused_roles(connection).await?)
        });
        tokio::select! {
            collected = collecting => collected,
            never = blockers::end(self, blockers::FAST) => match never {},
        }
    }

    /// Vacuums shared catalogs and pgdibs's own once some hundred rows are dead; returns whether it did. Each clone with its swap and drop
    /// leaves a dozen dead rows in `pg_database` alone, which every snapshot reads from end to end, and autovacuum runs once in minutes.
    pub async fn vacuum_catalogs(&self) -> Result<bool, Error> {
        Ok(self.vacuum_if_due().await?)
    }

    async fn vacuum_if_due(&self) -> Result<bool> {
        if self.facts().rights != Rights::Superuser {
            return Ok(false);
        }
        let mut connection = self.connections.ddl.acquire().await?;
        let dead: i64 = sqlx::query_scalar(
            "select coalesce(sum(pg_stat_get_dead_tuples(name::regclass)), 0)::int8 from unnest($1::text[]) as name",
        )
        .bind(&ddl::VACUUMED[..])
        .fetch_one(&mut *connection)
        .await?;
        if dead < DEAD_ROWS {
            return Ok(false);
        }
        ddl::vacuum_catalogs().run(&mut connection).await?;
        Ok(true)
    }

    /// After the server's clock was set: shifts the times from which pgdibs counts, so that nothing ends too early or lasts too long. Times
    /// that were written after the jump stay; `retry_at` was written a minute before it at the most. (After a jump backward, a time in the
    /// past cannot be told from one that was written since, and then counts as later than it was, by the length of the jump at most.)
    pub async fn move_times(&self, microseconds: i64) -> Result<(), Error> {
        self.as_leader(ANSWER_TIMEOUT, async |connection| {
            let mut transaction = connection.begin().await?;
            for statement in [
                "update templates set build_heard_at = shifted(build_heard_at, build_heard_at, $1),
                     last_used_at = shifted(last_used_at, last_used_at, $1), retry_at = shifted(retry_at, retry_at - interval '60 s', $1)",
                "update databases set retry_at = shifted(retry_at, retry_at - interval '60 s', $1),
                     keep_until = shifted(keep_until, kept_at, $1), kept_at = shifted(kept_at, kept_at, $1)
                 where retry_at is not null or keep_until is not null",
                "update announced_runs set put_at = shifted(put_at, put_at, $1)",
                "update pools set used_at = shifted(used_at, used_at, $1)",
            ] {
                sqlx::query(statement).bind(microseconds).execute(&mut *transaction).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }
}

async fn delete_old_rows(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for statement in [
        "delete from leases where ended_at < now() - interval '24 hours'",
        "delete from ended_runs where ended_at < now() - interval '24 hours'",
        "delete from announced_runs r where put_at < now() - interval '60 s'
           and not exists (select from leases l where l.run = r.run and l.pool = r.pool and l.state = 'live')",
        "delete from tickets where daemon::int8 not in (select daemon from living_daemons)",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Drops logins with a name of pgdibs's that no row names: a step left them that failed after the drop of their database. A login that may
/// still connect to a database that pgdibs created stays, whatever the rows say: a lease may hold it, if another catalog made it.
async fn drop_unused_logins(backend: &PgBackend, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        // Uncorrelated, so that Postgres hashes each list once: with a thousand logins, anti-joins of all with all took seconds.
        "select r.rolname::text from pg_roles r
         where r.rolname ~ '^pgdibs_l_[0-9]+$'
           and r.rolname::text not in (
               select login from databases union all select keep_login from databases where keep_login is not null
               union all select 'pgdibs_l_' || id from templates where state <> 'ready'
               union all select shared_login from leases where state = 'live' and shared_login is not null)
           and r.oid not in (
               select a.grantee from pg_database d cross join lateral aclexplode(d.datacl) a
               where a.privilege_type = 'CONNECT' and d.datdba = (select oid from pg_roles where rolname = 'pgdibs_owner'))",
    )
    .fetch_all(&mut *connection)
    .await?;
    for name in names {
        let Ok(login) = RoleName::parse("login", &name) else { continue };
        if let Err(error) = ddl::bound_statements().then(ddl::close_login(&login)).run(connection).await {
            if sqlstate::class(&error) == ErrorClass::Unavailable {
                return Err(error);
            }
            tracing::debug!(login = name, "cannot close login that no row names: {}", sqlstate::sentence(&error));
            continue;
        }
        let mut ctx = StepContext { backend, connection };
        let dropped = drop_logins(&mut ctx, std::slice::from_ref(&name)).await;
        if let Err(error) = dropped.map_err(StepError::from) {
            tracing::debug!(login = name, "cannot drop login that no row names: {error}");
        }
    }
    Ok(())
}
