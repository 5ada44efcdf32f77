//! Sessions that block drops: from Postgres 15 on `drop database` waits until every session of the server, also of other databases, has
//! answered a signal. A session that waits for its client in the middle of a COPY, or for the client to read, does not answer.
//!
//! It may be the holder of a live lease, which keeps what it has. So drops wait, other work goes on, and the daemon reports the session.

use std::collections::BTreeSet;

use pgdibs_core::error::Error;

use crate::context::PgBackend;

impl PgBackend {
    /// The sessions for which drops wait, each in a sentence that says how it ends.
    pub async fn drop_blockers(&self) -> Result<BTreeSet<String>, Error> {
        let catalog = self.catalog();
        let finding = sqlx::query_as(
            "select a.pid, coalesce(a.datname, '')::text, coalesce(a.usename, '')::text from pg_stat_activity a
             where a.state = 'active' and a.wait_event in ('ClientRead', 'ClientWrite') and a.query_start < now() - interval '1 s'
               and exists (select from pg_stat_activity d where d.application_name = $1 and d.usename = current_user and d.wait_event = 'ProcSignalBarrier')
             order by a.query_start limit 5",
        )
        .bind(self.ddl_application())
        .fetch_all(&catalog);
        let rows: Vec<(i32, String, String)> = self.within(finding).await?;
        let sentence = |(pid, database, user): (i32, String, String)| {
            format!(
                "drops wait for session {pid} of {user} in database {database}, which is in the middle of a COPY or of sending rows and does not answer the server; it ends with its client, with its lease, or with: select pg_terminate_backend({pid})"
            )
        };
        Ok(rows.into_iter().map(sentence).collect())
    }
}
