//! Tenants' sessions that fill the lock table, whose size is fixed at the server's start. Once it is full, every statement that needs a
//! lock fails with 53200 "out of shared memory": no lease begins or ends, and no session either.

use std::collections::BTreeSet;

use super::tenants::ask_catalog;
use crate::context::PgBackend;
use crate::watch::{Session, Watch};

#[derive(sqlx::FromRow)]
struct Holder {
    #[sqlx(flatten)]
    session: Session,
    entries: i64,
}

/// When the table is full, ends the tenant session that holds the most of it, beyond what the server's settings allot to each; a session of
/// a lease that has ended or is being reset comes first. If the table is still full, the next check ends the next.
pub(super) async fn end_largest(backend: &PgBackend, watch: &mut Watch) -> Result<(), sqlx::Error> {
    let statement = concat!(include_str!("../../sql/sessions.sql"), include_str!("../../sql/lock_table.sql"));
    let holders: Vec<Holder> = sqlx::query_as(statement)
        .bind(i64::try_from(backend.facts().lock_entries).unwrap_or(i64::MAX))
        .fetch_all(watch.fresh().await?)
        .await?;
    let ended = if holders.len() < 2 { BTreeSet::new() } else { ended_leases(backend).await };
    let first = holders
        .iter()
        .find(|Holder { session, .. }| ended.contains(&session.login) || ended.contains(&session.oid.to_string()));
    if let Some(Holder { session, entries }) = first.or(holders.first()) {
        watch.end(session, &format!("the lock table is full, and it held {entries} of its entries")).await?;
    }
    Ok(())
}

/// Databases, by oid, whose leases have ended or are being reset, and their logins. Empty when the catalog does not answer: the query runs
/// on an open connection and reads tables of its own database, which rarely needs an entry of the lock table.
async fn ended_leases(backend: &PgBackend) -> BTreeSet<String> {
    let catalog = backend.catalog();
    let reading = sqlx::query_scalar(
        "select unnest(array[d.login, d.oid::text]) from databases d
         where d.slot is not null and (d.state in ('retiring', 'kept', 'blocked')
           or exists (select from leases l where l.database_id = d.id and l.reset_to is not null))",
    )
    .fetch_all(&catalog);
    let read: Vec<String> = ask_catalog(reading).await.unwrap_or_default();
    read.into_iter().collect()
}
