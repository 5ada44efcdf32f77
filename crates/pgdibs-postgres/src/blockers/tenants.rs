//! What only the catalog knows of blockers: whose a prepared transaction is, and of which pool a session.

use std::time::Duration;

use tokio::time::timeout;

use crate::context::PgBackend;
use crate::watch::Session;

/// The catalog's connections are open, and the rows few.
const ASKING: Duration = Duration::from_millis(500);

/// A prepared transaction: no process holds its locks.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) database: String,
    pub(super) gid: String,
    pub(super) owner: String,
    /// It is a tenant's by its owner's name or by its database's owner, without a look into the catalog.
    pub(super) is_tenants: bool,
}

/// Whether a tenant's session is ended that blocks this database of pgdibs; for `None` the daemon waits or its catalog is blocked. Leases of
/// one pool may block each other: they are one trust domain.
pub(super) async fn may_not_block(backend: Option<&PgBackend>, session: &Session, database: Option<i64>) -> bool {
    let (Some(database), Some(backend)) = (database, backend) else { return database.is_none() };
    let asking = sqlx::query_scalar(
        "with all_of_ours as (select pool, oid, login from databases union all select pool, oid, 'pgdibs_l_' || id from templates)
         select exists (select from all_of_ours where oid = $1)
            and not exists (select from all_of_ours wanted join all_of_ours its on its.pool = wanted.pool
                            where wanted.oid = $1 and (its.login = $2 or its.oid = $3))",
    )
    .bind(database)
    .bind(&session.login)
    .bind(session.oid)
    .fetch_one(&backend.connections.catalog);
    timeout(ASKING, asking).await.is_ok_and(|answered| answered.unwrap_or(false))
}

/// Whether a tenant has prepared it.
pub(super) async fn has_prepared(backend: Option<&PgBackend>, prepared: &Prepared) -> bool {
    let (false, Some(backend)) = (prepared.is_tenants, backend) else { return prepared.is_tenants };
    let asking = sqlx::query_scalar(
        "select $1 in (select owner from pools union all select name from roles)
             or exists (select from databases d join pg_database p on d.oid = p.oid::int8 and d.name = p.datname where p.datname = $2::name)",
    )
    .bind(&prepared.owner)
    .bind(&prepared.database)
    .fetch_one(&backend.connections.catalog);
    timeout(ASKING, asking).await.is_ok_and(|answered| answered.unwrap_or(false))
}
