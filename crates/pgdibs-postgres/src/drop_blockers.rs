//! Sessions that block drops: from Postgres 15 on `drop database` waits until every session of the server, also of other databases, has
//! answered a signal. A session that waits for its client in the middle of a COPY, or for the client to read, does not answer.
//!
//! It may be the holder of a live lease, which keeps what it has. So drops wait, other work goes on, and the daemon reports the session.

use std::collections::BTreeSet;

use pgdibs_core::error::Error;
use sqlx::FromRow;
use sqlx::postgres::PgExecutor;

use crate::context::PgBackend;

/// Such a session.
#[derive(FromRow)]
pub(crate) struct DropBlocker {
    pub(crate) pid: i32,
    pub(crate) role: String,
    pub(crate) database: String,
    /// How long its statement has run.
    pub(crate) seconds: f64,
}

/// The sessions that do not answer, the longest first. `waiting`: only while a drop by sessions of this name waits for one.
pub(crate) async fn sessions(
    server: impl PgExecutor<'_>,
    waiting: Option<&str>,
) -> Result<Vec<DropBlocker>, sqlx::Error> {
    sqlx::query_as(
        "select a.pid, coalesce(a.usename, '')::text as role, coalesce(a.datname, '')::text as database,
                extract(epoch from now() - a.query_start)::float8 as seconds
         from pg_stat_activity a
         where a.state = 'active' and a.wait_event in ('ClientRead', 'ClientWrite') and a.query_start < now() - interval '1 s'
           and ($1::text is null or exists (select from pg_stat_activity d where d.application_name = $1 and d.usename = current_user and d.wait_event = 'ProcSignalBarrier'))
         order by a.query_start limit 5",
    )
    .bind(waiting)
    .fetch_all(server)
    .await
}

impl PgBackend {
    /// The sessions for which drops wait, each in a sentence that says how it ends.
    pub async fn drop_blockers(&self) -> Result<BTreeSet<String>, Error> {
        let (catalog, application) = (self.catalog(), self.ddl_application());
        let found = self.within(sessions(&catalog, Some(&application))).await?;
        let sentence = |DropBlocker { pid, role, database, .. }: DropBlocker| {
            format!(
                "drops wait for session {pid} of {role} in database {database}, which is in the middle of a COPY or of sending rows and does not answer the server; it ends with its client, with its lease, or with: select pg_terminate_backend({pid})"
            )
        };
        Ok(found.into_iter().map(sentence).collect())
    }
}
