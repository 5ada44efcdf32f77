//! Logins beside those of the databases: one for all leases of a batch, and the look-up of the one that opens a database.

use pgdibs_core::error::Error;
use pgdibs_core::lease::{Credentials, Lease, LeaseId};
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::pool::LoginRights;
use sqlx::Row as _;

use super::leases;
use crate::blockers;
use crate::context::{PgBackend, answer};
use crate::ddl::{self, Ddl, LoginKind};
use crate::rights::Rights;
use crate::scram::{self, new_password};

/// Makes the shared login and lets it into each of the databases.
///
/// This is DDL in a request, which otherwise only the reconciler's steps are. It locks our rows first, as every swap does, so
/// neither meets the other half-way; and a login that is left behind is taken by the sweep, since no live lease names it.
pub(crate) async fn share(backend: &PgBackend, ids: &[LeaseId]) -> Result<Vec<Lease>, Error> {
    let number: i64 =
        answer(sqlx::query_scalar("select nextval('numbers')").fetch_one(&backend.connections.catalog).await)?;
    share_as(backend, ids, &RoleName::login(number)).await?;
    let mut shared = Vec::with_capacity(ids.len());
    for &id in ids {
        shared.push(leases::find(backend, id).await?);
    }
    Ok(shared)
}

async fn share_as(backend: &PgBackend, ids: &[LeaseId], login: &RoleName) -> Result<(), Error> {
    let facts = backend.facts();
    let mut transaction = answer(backend.connections.begin("begin").await)?;
    let rows = answer(
        sqlx::query(
            "select d.pool, d.name, p.owner, p.login as may, p.connection_limit from leases l join databases d on d.id = l.database_id join pools p on p.name = d.pool
             where l.id = any($1) and l.state = 'live' and l.reset_to is null order by d.id for update of l, d",
        )
        .bind(ids)
        .fetch_all(&mut *transaction)
        .await,
    )?;
    if rows.len() != ids.len() {
        return Err(Error::ServerUnavailable("a lease of the batch ended or is being reset at this moment".to_owned()));
    }
    let password: String = answer(
        sqlx::query_scalar(concat!(
            "with secret as (select ",
            new_password!(),
            " as text)
             update leases set shared_login = $2, shared_password = secret.text from secret where id = any($1)
             returning shared_password"
        ))
        .bind(ids)
        .bind(login.as_str())
        .fetch_one(&mut *transaction)
        .await,
    )?;
    let verifier = scram::verifier(&password);
    answer(
        sqlx::query("update leases set shared_verifier = $2 where id = any($1)")
            .bind(ids)
            .bind(&verifier)
            .execute(&mut *transaction)
            .await,
    )?;
    let text = |row: &sqlx::postgres::PgRow, column: &str| answer(row.try_get::<String, _>(column));
    let mut statements = Ddl::default();
    for (index, row) in rows.iter().enumerate() {
        let pool = PoolName::parse(&text(row, "pool")?)?;
        let name = DatabaseName::recognise(&pool, &text(row, "name")?)
            .ok_or_else(|| Error::Internal("the catalog holds an impossible name".to_owned()))?;
        if index == 0 {
            let owner = RoleName::parse("owner", &text(row, "owner")?)?;
            let limit = u32::try_from(answer(row.try_get::<i32, _>("connection_limit"))?).unwrap_or(0);
            let kind = LoginKind {
                may: LoginRights::parse(&text(row, "may")?).unwrap_or_default(),
                // It does for all of them what otherwise each one's login does.
                connection_limit: limit.saturating_mul(u32::try_from(rows.len()).unwrap_or(1)),
                made_by: facts.rights,
            };
            statements = ddl::create_login(login, &verifier, &owner, kind);
            if facts.rights == Rights::DatabasesAndRoles {
                statements = statements.then(ddl::grant_role(login, &facts.role, facts.major));
            }
        }
        statements = statements.then(ddl::grant_connect(&name, login));
    }
    tokio::select! {
        granted = statements.run(&mut transaction) => answer(granted)?,
        never = blockers::end(backend, blockers::FAST) => match never {},
    }
    answer(transaction.commit().await)
}

/// The login of a leased database, or of a kept one that has left its slot.
pub(crate) async fn credentials(backend: &PgBackend, database: &str) -> Result<Credentials, Error> {
    let row = answer(
        sqlx::query(
            "select case when d.state = 'kept' then d.keep_login else coalesce(l.shared_login, d.login) end as login,
                    case when d.state = 'kept' then d.keep_password else coalesce(l.shared_password, d.password) end as password
             from databases d left join leases l on l.database_id = d.id and l.state = 'live'
             where d.name = $1 and ((d.state = 'leased' and l.id is not null) or (d.state = 'kept' and d.slot is null))",
        )
        .bind(database)
        .fetch_optional(&backend.connections.catalog)
        .await,
    )?;
    let Some(row) = row else {
        return Err(Error::DatabaseNotFound(format!(
            "there is no leased or kept database \"{}\"; GET /v1/databases lists what there is",
            pgdibs_core::name::shown(database)
        )));
    };
    let password: String = answer(row.try_get("password"))?;
    Ok(Credentials { user: answer(row.try_get("login"))?, password: password.into() })
}
