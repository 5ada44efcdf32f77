//! Logins beside those of the databases: one for all leases of a batch, and the look-up of the login that opens a database.

use pgdibs_core::error::Error;
use pgdibs_core::lease::{Credentials, Lease, LeaseId};
use pgdibs_core::name::{RoleName, shown};

use super::{leases, next_number};
use crate::blockers;
use crate::context::PgBackend;
use crate::ddl;
use crate::error::Result;
use crate::rows::Columns as _;
use crate::scram;

/// Creates the shared login and grants it CONNECT on each of the databases.
///
/// This is DDL in a request; all other DDL is in the reconciler's steps. It locks the rows first, as every swap does, so neither runs
/// halfway through the other. A login that a failure leaves behind is garbage-collected, since no live lease names it.
pub(crate) async fn share(backend: &PgBackend, ids: &[LeaseId]) -> Result<Vec<Lease>> {
    let login = RoleName::login(next_number(backend).await?);
    share_as(backend, ids, &login).await?;
    let mut shared = Vec::with_capacity(ids.len());
    for &id in ids {
        shared.push(leases::find(backend, id).await?);
    }
    Ok(shared)
}

async fn share_as(backend: &PgBackend, ids: &[LeaseId], login: &RoleName) -> Result<()> {
    let mut transaction = backend.transaction().await?;
    let rows = sqlx::query(
        "select d.pool, d.name, p.owner, p.login as may, p.act_as, p.connection_limit
         from leases l join databases d on d.id = l.database_id join pools p on p.name = d.pool
         where l.id = any($1) and l.state = 'live' and l.reset_to is null order by d.id for update of l, d",
    )
    .bind(ids)
    .fetch_all(&mut *transaction)
    .await?;
    let Some(first) = rows.first().filter(|_| rows.len() == ids.len()) else {
        let what = "a lease of the batch ended or is being reset at this moment";
        return Err(Error::ServerUnavailable(what.to_owned()).into());
    };
    let password: String = sqlx::query_scalar(
        "with secret as (select new_password() as text)
         update leases set shared_login = $2, shared_password = secret.text from secret where id = any($1)
         returning shared_password",
    )
    .bind(ids)
    .bind(login.as_str())
    .fetch_one(&mut *transaction)
    .await?;
    let verifier = scram::verifier(&password);
    sqlx::query("update leases set shared_verifier = $2 where id = any($1)")
        .bind(ids)
        .bind(&verifier)
        .execute(&mut *transaction)
        .await?;
    let limit: u32 = first.number("connection_limit")?;
    // It has the sessions that otherwise the logins of all these databases have.
    let limit = limit.saturating_mul(u32::try_from(rows.len()).unwrap_or(1));
    let mut statements = backend.create_login(login, &verifier, &first.role("owner")?, first.login_settings()?, limit);
    for row in &rows {
        statements = statements.then(ddl::grant_connect(&row.database("name")?, login));
    }
    tokio::select! {
        granted = statements.run(&mut transaction) => granted?,
        never = blockers::end(backend, blockers::FAST) => match never {},
    }
    Ok(transaction.commit().await?)
}

/// The login of a leased database, or of a kept one that has left its slot.
pub(crate) async fn credentials(backend: &PgBackend, database: &str) -> Result<Credentials> {
    let found: Option<(String, String)> = sqlx::query_as(
        "select l.login, l.password from lease_details l join databases d on d.id = l.database_id
         where d.name = $1 and d.state = 'leased' and l.state = 'live'
         union all
         select keep_login, keep_password from databases where name = $1 and state = 'kept' and slot is null",
    )
    .bind(database)
    .fetch_optional(&backend.catalog())
    .await?;
    match found {
        Some((user, password)) => Ok(Credentials { user, password: password.into() }),
        None => Err(Error::DatabaseNotFound(format!(
            "there is no leased or kept database \"{}\"; GET /v1/databases lists the databases",
            shown(database)
        ))
        .into()),
    }
}
