//! Pools: settings, and the refusal of names and numbers that cannot work.

use pgdibs_core::error::Error;
use pgdibs_core::name::{DatabaseName, InvalidName, PoolName, RoleName};
use pgdibs_core::pool::{LoginRights, Pool, PoolPatch, PoolSettings};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::context::{PgBackend, answer};
use crate::rights::Rights;
use crate::rows::{self, pool_columns};
use crate::sqlstate::{self, Meaning};

pub(crate) async fn find(backend: &PgBackend, pool: &PoolName) -> Result<Pool, Error> {
    let row = answer(
        sqlx::query(concat!("select ", pool_columns!(), " from pools where name = $1 and not dropping"))
            .bind(pool.as_str())
            .fetch_optional(&backend.connections.catalog)
            .await,
    )?;
    match row {
        Some(row) => answer(rows::pool(&row)),
        None => Err(Error::PoolNotFound(pool.to_string())),
    }
}

pub(crate) async fn put(backend: &PgBackend, name: &PoolName, patch: &PoolPatch) -> Result<(Pool, bool), Error> {
    let mut transaction = answer(backend.connections.begin("begin").await)?;
    let found = answer(
        sqlx::query(concat!("select ", pool_columns!(), " from pools where name = $1 for update"))
            .bind(name.as_str())
            .fetch_optional(&mut *transaction)
            .await,
    )?;
    let before = match &found {
        Some(row) => Some(answer(rows::pool(row))?),
        None => None,
    };
    let base = before.as_ref().map_or_else(|| PoolSettings::of(name), |pool| pool.settings.clone());
    let settings = patch.apply(&base)?;
    refuse_foreign_roles(backend, name, &settings).await?;
    refuse_rights_that_we_lack(backend, &settings)?;
    let made = before.as_ref().is_none_or(|pool| pool.dropping);
    if made {
        refuse_foreign_databases(backend, name).await?;
    }
    let roles: Vec<&str> = settings.roles.iter().map(RoleName::as_str).collect();
    let row = sqlx::query(concat!(
        "insert into pools as p (name, warm, max, spares, owner, strategy, extensions, roles, keep_templates,
                                template_max_age_seconds, login, connection_limit, sourced)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, coalesce($13, false))
         on conflict (name) do update set warm = $2, max = $3, spares = $4, owner = $5, strategy = $6, extensions = $7,
             roles = $8, keep_templates = $9, template_max_age_seconds = $10, login = $11, connection_limit = $12,
             sourced = coalesce($13, p.sourced), dropping = false
         returning ",
        pool_columns!()
    ))
    .bind(name.as_str())
    .bind(i32::try_from(settings.warm).unwrap_or(i32::MAX))
    .bind(i32::try_from(settings.max).unwrap_or(i32::MAX))
    .bind(i32::try_from(settings.spares).unwrap_or(i32::MAX))
    .bind(settings.owner.as_str())
    .bind(settings.strategy.as_str())
    .bind(&settings.extensions)
    .bind(roles)
    .bind(i32::try_from(settings.keep_templates).unwrap_or(i32::MAX))
    .bind(i64::try_from(settings.template_max_age_seconds).unwrap_or(i64::MAX))
    .bind(settings.login.as_str())
    .bind(i32::try_from(settings.connection_limit).unwrap_or(i32::MAX))
    .bind(patch.sourced)
    .fetch_one(&mut *transaction)
    .await;
    let pool = answer(row.and_then(|row| rows::pool(&row)))?;
    if before.is_some_and(|before| !has_the_same_logins(&before.settings, &settings)) {
        retire_unused(&mut transaction, name).await?;
    }
    answer(transaction.commit().await)?;
    Ok((pool, made))
}

/// A login gets its rights when its database is cloned.
fn has_the_same_logins(before: &PoolSettings, after: &PoolSettings) -> bool {
    let of = |settings: &PoolSettings| (settings.login, settings.connection_limit, settings.owner.clone());
    of(before) == of(after)
}

/// Clones whose logins are those of earlier settings make way for others. One that a reset has reserved is used for it all the same.
async fn retire_unused(transaction: &mut PgConnection, pool: &PoolName) -> Result<(), Error> {
    answer(
        sqlx::query(
            "update databases d set state = 'retiring', reason = 'the logins of its pool were set otherwise'
             where d.pool = $1 and d.state in ('spare', 'ready') and not exists (select from leases where reset_to = d.id)",
        )
        .bind(pool.as_str())
        .execute(transaction)
        .await
        .map(|_| ()),
    )
}

/// Nobody can give rights that they do not have themselves.
fn refuse_rights_that_we_lack(backend: &PgBackend, settings: &PoolSettings) -> Result<(), Error> {
    let role = &backend.facts().role;
    let refuse = |field: &'static str, rule: String| Err(Error::Invalid(InvalidName { field, rule }));
    match backend.facts().rights {
        Rights::Superuser => Ok(()),
        Rights::DatabasesAndRoles if settings.login == LoginRights::Superuser => refuse(
            "login",
            format!("\"superuser\" needs a daemon that is superuser itself, and role \"{role}\" is none"),
        ),
        Rights::DatabasesAndRoles => Ok(()),
    }
}

/// A login becomes a member of the pool's roles. A role of somebody else may own things in other databases of this server,
/// and a superuser role everything; so only roles that we made, or will make, are used.
async fn refuse_foreign_roles(backend: &PgBackend, pool: &PoolName, settings: &PoolSettings) -> Result<(), Error> {
    let mut names: Vec<&str> = settings.roles.iter().map(RoleName::as_str).collect();
    names.push(settings.owner.as_str());
    // Those that we make for other ends: who acts as the owner of the databases can drop them.
    if let Some(own) = names.iter().find(|name| **name == "pgdibs_owner" || RoleName::is_generated_login(name)) {
        return Err(Error::Invalid(InvalidName {
            field: if *own == settings.owner.as_str() { "owner" } else { "roles" },
            rule: format!("role \"{own}\" is one that pgdibs makes for itself; name another"),
        }));
    }
    // Another pool's owner, which whoever is its member may act as.
    if let Some(own) = settings.roles.iter().find(|role| role.as_str().starts_with("pgdibs_")) {
        return Err(Error::Invalid(InvalidName {
            field: "roles",
            rule: format!(
                "role \"{own}\" has a name that pgdibs gives to the owners of pools; name another, without pgdibs_ in front"
            ),
        }));
    }
    let rows = answer(
        sqlx::query(
            "select r.rolname::text as name, exists (
                    select from pg_roles m where pg_has_role(r.oid, m.oid, 'member')
                      and (m.rolsuper or m.rolcreaterole or m.rolcreatedb or m.rolreplication or m.rolbypassrls
                           or m.rolname in ('pgdibs_owner', 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))
                ) as privileged
             from pg_roles r where r.rolname = any($1) and r.rolname not in (select name from roles)",
        )
        .bind(&names)
        .fetch_all(&backend.connections.catalog)
        .await,
    )?;
    for row in rows {
        let name: String = answer(row.try_get("name"))?;
        let privileged: bool = answer(row.try_get("privileged"))?;
        let is_owner = name == settings.owner.as_str();
        // An owner that exists is allowed when it is an ordinary role: the configuration names it on purpose. Not under the name of
        // the pool's own role, which is made and dropped with the pool.
        let is_own = is_owner && settings.owner == RoleName::of_pool(pool);
        if privileged || !is_owner || is_own {
            let what_to_do = if is_own {
                format!(
                    "It carries the name of the role that pgdibs makes for pool \"{pool}\": drop or rename it, or name another `owner` in the configuration"
                )
            } else {
                "Name a role that does not exist yet".to_owned()
            };
            return Err(Error::Invalid(InvalidName {
                field: if is_owner { "owner" } else { "roles" },
                rule: format!(
                    "role \"{name}\" exists and was not made by pgdibs; every lease would act as it{}. {what_to_do}",
                    if privileged { ", with its rights over the whole server" } else { "" }
                ),
            }));
        }
    }
    Ok(())
}

async fn refuse_foreign_databases(backend: &PgBackend, pool: &PoolName) -> Result<(), Error> {
    let names: Vec<String> = answer(
        sqlx::query_scalar(
            "select p.datname::text from pg_database p
             where starts_with(p.datname::text, $1 || '_')
               and not exists (select from databases d where d.name = p.datname)
               and not exists (select from templates t where t.name = p.datname)
             order by 1",
        )
        .bind(pool.as_str())
        .fetch_all(&backend.connections.catalog)
        .await,
    )?;
    let foreign: Vec<String> = names.into_iter().filter(|name| DatabaseName::recognise(pool, name).is_some()).collect();
    if foreign.is_empty() { Ok(()) } else { Err(Error::ForeignDatabases { pool: pool.to_string(), names: foreign }) }
}

/// A number that no waiting will ever satisfy is refused at once, with the limit, the setting and the number.
pub(crate) fn refuse_what_can_never_fit(backend: &PgBackend, pool: &Pool, wanted: u32) -> Result<(), Error> {
    let by_connections = backend.slots_by_connections();
    if wanted > pool.settings.max {
        return Err(Error::CapacityExceeded(format!(
            "{wanted} databases at once do not fit pool \"{0}\": its `max` is {1}; raise it with PUT /v1/pools/{0} or `pgdibs pool set {0} --max {wanted}`, or use fewer workers",
            pool.name, pool.settings.max
        )));
    }
    if wanted > by_connections {
        return Err(Error::CapacityExceeded(format!(
            "{wanted} databases at once do not fit this server: its max_connections leaves room for {by_connections} beside the daemon's own {}; raise max_connections, or use fewer workers",
            crate::connections::OWN_CONNECTIONS
        )));
    }
    Ok(())
}

pub(crate) async fn mark_dropping(backend: &PgBackend, name: &PoolName, force: bool) -> Result<(), Error> {
    find(backend, name).await?;
    let mut transaction = answer(backend.connections.begin("begin").await)?;
    // Lends nothing from here on: `find` passes over a pool that is being dropped.
    answer(
        sqlx::query("update pools set dropping = true where name = $1")
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await,
    )?;
    // An acquire locks its template's row and wants it ready, so none can slip in between. Two statements: an acquire that
    // held the lock may have committed a lease that a statement begun before does not see.
    answer(
        sqlx::query("select from templates where pool = $1 for update")
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await,
    )?;
    answer(
        sqlx::query(
            "update templates set state = 'retiring', detail = 'its pool was dropped' where pool = $1 and state = 'ready'",
        )
        .bind(name.as_str())
        .execute(&mut *transaction)
        .await,
    )?;
    let holders: Vec<String> = answer(
        sqlx::query_scalar(
            "select coalesce(nullif(holder, ''), worker, 'somebody') from leases where pool = $1 and state = 'live' for update",
        )
        .bind(name.as_str())
        .fetch_all(&mut *transaction)
        .await,
    )?;
    if !holders.is_empty() && !force {
        return Err(Error::PoolInUse { pool: name.to_string(), live: holders.len(), holders: holders.join(", ") });
    }
    answer(
        sqlx::query(
            "with ended as (
                 update leases set state = 'revoked', ended_at = now(), ended_reason = 'its pool was dropped by force', reset_to = null
                 where pool = $1 and state = 'live' returning database_id)
             update databases d set state = 'retiring', keep_until = null, reason = 'its pool was dropped'
             from ended where d.id = ended.database_id",
        )
        .bind(name.as_str())
        .execute(&mut *transaction)
        .await,
    )?;
    // Whoever waits learns at the next look, which comes with this change, that the pool is gone.
    answer(sqlx::query("delete from tickets where pool = $1").bind(name.as_str()).execute(&mut *transaction).await)?;
    answer(
        sqlx::query("update databases set keep_until = now() where pool = $1 and state = 'kept'")
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await,
    )?;
    match transaction.commit().await {
        Ok(()) => Ok(()),
        Err(error) if sqlstate::meaning(&error) == Meaning::Contended => {
            Err(Error::ServerUnavailable(sqlstate::sentence(&error)))
        }
        Err(error) => answer(Err(error)),
    }
}
