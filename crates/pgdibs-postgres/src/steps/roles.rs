//! Roles and logins that steps create, and the roles that no pool names any more.

use pgdibs_core::name::{PoolName, RoleName};
use pgdibs_core::pool::LoginSettings;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::step_context::StepContext;
use crate::context::blocking;
use crate::ddl;
use crate::error::{Result, failed};
use crate::scram;
use crate::sqlstate::{self, ErrorClass};

/// Creates the login of a database or of a build; an existing one, which a crash left, gets this password. Returns the verifier.
pub(super) async fn make_login(
    ctx: &mut StepContext<'_>,
    login: &RoleName,
    password: String,
    owner: &RoleName,
    settings: LoginSettings,
    connection_limit: u32,
) -> Result<String> {
    let verifier = blocking(move || scram::verifier(&password)).await?;
    match ctx.backend.create_login(login, &verifier, owner, settings, connection_limit).run(ctx.connection).await {
        Err(error) if sqlstate::class(&error) == ErrorClass::Exists => {
            ddl::reopen_login(login, &verifier).run(ctx.connection).await?;
        }
        created => created?,
    }
    Ok(verifier)
}

/// Creates the owner role of a pool. Without a name in the configuration it is the daemon's alone; the configuration may name a role that
/// exists.
pub(super) async fn make_owner(ctx: &mut StepContext<'_>, owner: &RoleName, pool: &PoolName) -> Result<()> {
    make_role(ctx, owner, *owner != RoleName::of_pool(pool)).await
}

/// Creates a role without LOGIN, and records in the same transaction that pgdibs created it. One that exists is fine if pgdibs created it,
/// or if it `may_be_foreign`.
pub(super) async fn make_role(ctx: &mut StepContext<'_>, role: &RoleName, may_be_foreign: bool) -> Result<()> {
    let (exists, ours): (bool, bool) = sqlx::query_as(
        "select exists (select from pg_roles where rolname = $1), exists (select from roles where name = $1)",
    )
    .bind(role.as_str())
    .fetch_one(&mut *ctx.connection)
    .await?;
    if exists && !ours && !may_be_foreign {
        return Err(failed(format!(
            "role \"{role}\" exists and was not made by pgdibs, which would let every lease act as it; drop or rename it, or name another role for the pool"
        )));
    }
    if !exists {
        let mut transaction = ctx.connection.begin().await?;
        sqlx::query("insert into roles (name) values ($1) on conflict do nothing")
            .bind(role.as_str())
            .execute(&mut *transaction)
            .await?;
        ddl::create_nologin_role(role).run(&mut transaction).await?;
        transaction.commit().await?;
    }
    Ok(ctx.backend.join(role).run(ctx.connection).await?)
}

/// Drops roles that pgdibs created for pools and that no pool names any more. A role to which something still refers, in any database,
/// stays until a later garbage collection.
///
/// The caller's transaction may also delete a pool: a concurrent request that creates a pool of the same name waits for it, and the next
/// build creates the role again.
pub(crate) async fn drop_unused_roles(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let unused: Vec<String> = sqlx::query_scalar(
        "select n.name from roles n
         where not exists (select from pools p where p.owner = n.name or n.name = any(p.roles))
           and not exists (select from pg_roles r join pg_shdepend d on d.refobjid = r.oid
                           where r.rolname = n.name and d.refclassid = 'pg_authid'::regclass
                             and d.classid <> 'pg_auth_members'::regclass)",
    )
    .fetch_all(&mut *connection)
    .await?;
    for name in unused {
        let Ok(role) = RoleName::parse("role", &name) else { continue };
        let mut savepoint = connection.begin().await?;
        match ddl::bound_statements().then(ddl::drop_role(&role)).run(&mut savepoint).await {
            Ok(()) => {
                sqlx::query("delete from roles where name = $1").bind(&name).execute(&mut *savepoint).await?;
                savepoint.commit().await?;
            }
            Err(error) if sqlstate::class(&error) == ErrorClass::Unavailable => return Err(error),
            Err(error) => {
                tracing::debug!(%role, "cannot drop role that no pool names yet: {}", sqlstate::sentence(&error));
                savepoint.rollback().await?;
            }
        }
    }
    Ok(())
}
