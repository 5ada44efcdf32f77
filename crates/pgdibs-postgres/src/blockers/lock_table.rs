//! Tenants' sessions that use up the lock table, whose size is fixed at the server's start. Once it is full every statement that wants a
//! lock fails with 53200 "out of shared memory": no lease begins or ends, and no session either.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::Row as _;
use tokio::time::timeout;

use crate::context::PgBackend;
use crate::watch::{Session, Watch, is_tenant, session_columns};

/// To ask the catalog for leases that are over.
const ASKING: Duration = Duration::from_millis(500);

/// When the table is full, ends the tenant session that holds the most of it, beyond what the server's settings allot to each; one of a
/// lease that is over or being reset comes first. If it was not enough, the next look finds the next.
pub(super) async fn end_largest(backend: &PgBackend, watch: &mut Watch) -> Result<(), sqlx::Error> {
    let found = sqlx::query(concat!(
        "with held as materialized (select pid, count(*) as entries from pg_locks where not fastpath group by pid)
         select ",
        session_columns!(),
        ", h.entries from held h join pg_stat_activity a on a.pid = h.pid
         where (select sum(entries) from held) >= $1 and h.entries > current_setting('max_locks_per_transaction')::int and ",
        is_tenant!(),
        " order by h.entries desc"
    ))
    .bind(i64::try_from(backend.connections.facts.lock_entries).unwrap_or(i64::MAX))
    .fetch_all(watch.fresh().await?)
    .await?;
    let mut sessions = Vec::with_capacity(found.len());
    for row in &found {
        sessions.push((Session::of(row)?, row.try_get::<i64, _>("entries")?));
    }
    let over = match &sessions[..] {
        [] | [_] => BTreeSet::new(),
        _ => leaving(backend).await,
    };
    let first =
        sessions.iter().find(|(session, _)| over.contains(&session.login) || over.contains(&session.oid.to_string()));
    if let Some((session, entries)) = first.or(sessions.first()) {
        watch.end(session, &format!("the lock table is full, and it held {entries} of its entries")).await?;
    }
    Ok(())
}

/// Databases, by number, whose leases are over or being reset, and their logins. Empty when the catalog does not answer: it reads its own
/// tables on connections that are open, which needs no entry of the lock table as a rule.
async fn leaving(backend: &PgBackend) -> BTreeSet<String> {
    let asking = sqlx::query_scalar(
        "select unnest(array[d.login, d.oid::text]) from databases d
         where d.slot is not null and (d.state in ('retiring', 'kept', 'blocked')
           or exists (select from leases l where l.database_id = d.id and l.reset_to is not null))",
    )
    .fetch_all(&backend.connections.catalog);
    let answered: Vec<String> = timeout(ASKING, asking).await.ok().and_then(Result::ok).unwrap_or_default();
    answered.into_iter().collect()
}
