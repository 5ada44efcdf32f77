//! What only the catalog knows of blockers: whose a prepared transaction is, and of which pool a session.

use std::time::Duration;

use tokio::time::timeout;

use crate::context::PgBackend;
use crate::watch::Session;

/// The catalog's connections are open, and the rows few.
const CATALOG_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) async fn ask_catalog<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Option<T> {
    timeout(CATALOG_TIMEOUT, answer).await.ok().and_then(Result::ok)
}

/// A prepared transaction: no process holds its locks.
#[derive(Clone, sqlx::FromRow)]
pub(super) struct Prepared {
    #[sqlx(rename = "prepared_in")]
    pub(super) database: String,
    pub(super) gid: String,
    pub(super) owner: String,
    /// Its owner's name or its database's owner says that it is a tenant's, without a query of the catalog.
    pub(super) is_tenants: bool,
}

/// Whether to end a tenant's session that blocks this database of pgdibs; for `None` the daemon waits or its catalog is blocked. Leases of
/// one pool may block each other: they are one trust domain.
pub(super) async fn may_not_block(backend: Option<&PgBackend>, session: &Session, database: Option<i64>) -> bool {
    let (Some(database), Some(backend)) = (database, backend) else { return database.is_none() };
    let catalog = backend.catalog();
    let is_of_another_pool = sqlx::query_scalar(
        "with own as (select pool, oid, login from databases union all select pool, oid, 'pgdibs_l_' || id from templates)
         select exists (select from own where oid = $1)
            and not exists (select from own blocked join own its on its.pool = blocked.pool
                            where blocked.oid = $1 and (its.login = $2 or its.oid = $3))",
    )
    .bind(database)
    .bind(&session.login)
    .bind(session.oid)
    .fetch_one(&catalog);
    ask_catalog(is_of_another_pool).await.unwrap_or(false)
}

/// Whether a tenant has prepared it.
pub(super) async fn has_prepared(backend: Option<&PgBackend>, prepared: &Prepared) -> bool {
    let (false, Some(backend)) = (prepared.is_tenants, backend) else { return prepared.is_tenants };
    let catalog = backend.catalog();
    let is_tenants = sqlx::query_scalar(
        "select $1 in (select owner from pools union all select name from roles)
             or exists (select from databases d join pg_database p on d.oid = p.oid::int8 and d.name = p.datname where p.datname = $2::name)",
    )
    .bind(&prepared.owner)
    .bind(&prepared.database)
    .fetch_one(&catalog);
    ask_catalog(is_tenants).await.unwrap_or(false)
}
