//! Pools: settings, and the checks that refuse names and numbers which cannot work.

use pgdibs_core::error::Error;
use pgdibs_core::name::{DatabaseName, InvalidName, PoolName, RoleName};
use pgdibs_core::pool::{ActAs, Extension, Locale, LoginRights, Pool, PoolPatch, PoolSettings, StrategyChoice};
use pgdibs_core::template::TemplateId;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::connections::OWN_CONNECTIONS;
use crate::context::PgBackend;
use crate::error::Result;
use crate::rights::Rights;
use crate::rows::{Columns as _, invalid};

/// Each column by its name: with `select *`, the statements that an older daemon has prepared would fail after a migration that adds one.
macro_rules! select_pools {
    ($condition:literal) => {
        concat!(
            "select name, warm, max, spares, owner, strategy, extensions, extension_schemas, roles, keep_templates,
                    template_max_age_seconds, idle_pool_seconds, login, act_as, connection_limit, locale, encoding, icu_locale,
                    sourced, dropping, current_template,
                    greatest(0, extract(epoch from now() - used_at))::int8 as unused_seconds
             from pools ",
            $condition
        )
    };
}

/// Creates a pool, or sets it to all of these settings. `$1` is its name, `$2` whether a daemon builds its templates, or null to leave that
/// as it is.
const PUT: &str = "insert into pools as p (name, sourced, warm, max, spares, owner, strategy, extensions, roles, keep_templates,
                            template_max_age_seconds, login, connection_limit, idle_pool_seconds, extension_schemas, act_as,
                            locale, encoding, icu_locale)
     values ($1, coalesce($2, false), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
     on conflict (name) do update set sourced = coalesce($2, p.sourced), dropping = false, warm = $3, max = $4, spares = $5, owner = $6,
         strategy = $7, extensions = $8, roles = $9, keep_templates = $10, template_max_age_seconds = $11, login = $12,
         connection_limit = $13, idle_pool_seconds = $14, extension_schemas = $15, act_as = $16, locale = $17, encoding = $18,
         icu_locale = $19, used_at = now()";

fn read(row: PgRow) -> Result<Pool, sqlx::Error> {
    let roles: Vec<String> = row.try_get("roles")?;
    let roles = roles.iter().map(|role| RoleName::parse("roles", role)).collect::<Result<_, _>>();
    Ok(Pool {
        name: row.parsed("name", |text| PoolName::parse(text).ok())?,
        settings: PoolSettings {
            warm: row.number("warm")?,
            max: row.number("max")?,
            spares: row.number("spares")?,
            owner: row.role("owner")?,
            strategy: row.parsed("strategy", StrategyChoice::parse)?,
            extensions: extensions(&row)?,
            roles: roles.map_err(|_| invalid("roles"))?,
            keep_templates: row.number("keep_templates")?,
            template_max_age_seconds: row.number("template_max_age_seconds")?,
            idle_pool_seconds: row.number("idle_pool_seconds")?,
            login: row.parsed("login", LoginRights::parse)?,
            act_as: row.parsed("act_as", ActAs::parse)?,
            connection_limit: row.number("connection_limit")?,
            locale: locale(&row)?,
        },
        sourced: row.try_get("sourced")?,
        dropping: row.try_get("dropping")?,
        unused_seconds: row.number("unused_seconds")?,
        current_template: row.maybe_number("current_template")?.map(TemplateId),
    })
}

/// Columns `extensions` and `extension_schemas`; an older daemon writes the first one alone.
pub(crate) fn extensions(row: &PgRow) -> Result<Vec<Extension>, sqlx::Error> {
    let names: Vec<String> = row.try_get("extensions")?;
    let mut schemas: Vec<Option<String>> = row.try_get("extension_schemas")?;
    schemas.resize(names.len(), None);
    Ok(names.into_iter().zip(schemas).map(|(name, schema)| Extension { name, schema }).collect())
}

/// Columns `locale`, `encoding` and `icu_locale`.
pub(crate) fn locale(row: &PgRow) -> Result<Locale, sqlx::Error> {
    Ok(Locale {
        locale: row.try_get("locale")?,
        encoding: row.try_get("encoding")?,
        icu_locale: row.try_get("icu_locale")?,
    })
}

pub(crate) async fn all(connection: &mut PgConnection) -> Result<Vec<Pool>, sqlx::Error> {
    let pools = sqlx::query(select_pools!("order by name")).try_map(read);
    pools.fetch_all(connection).await
}

pub(crate) async fn find(backend: &PgBackend, name: &PoolName) -> Result<Pool> {
    let pool = sqlx::query(select_pools!("where name = $1 and not dropping"));
    let pool = pool.bind(name.as_str()).try_map(read).fetch_optional(&backend.catalog()).await?;
    pool.ok_or_else(|| Error::pool_not_found(name).into())
}

pub(crate) async fn put(backend: &PgBackend, name: &PoolName, patch: &PoolPatch) -> Result<(Pool, bool)> {
    let mut transaction = backend.transaction().await?;
    let before = sqlx::query(select_pools!("where name = $1 for update"));
    let before = before.bind(name.as_str()).try_map(read).fetch_optional(&mut *transaction).await?;
    let base = before.as_ref().map_or_else(|| PoolSettings::of(name), |pool| pool.settings.clone());
    let settings = patch.apply(&base)?;
    refuse_foreign_roles(backend, name, &settings).await?;
    refuse_missing_rights(backend, &settings)?;
    refuse_unknown_locale(backend, &settings.locale).await?;
    let is_new = before.as_ref().is_none_or(|pool| pool.dropping);
    if is_new {
        refuse_foreign_databases(backend, name).await?;
    }
    let roles: Vec<&str> = settings.roles.iter().map(RoleName::as_str).collect();
    let extensions = settings.extensions.iter();
    let (extensions, schemas): (Vec<&str>, Vec<Option<&str>>) =
        extensions.map(|one| (one.name.as_str(), one.schema.as_deref())).unzip();
    sqlx::query(PUT)
        .bind(name.as_str())
        .bind(patch.sourced)
        .bind(i32::try_from(settings.warm).unwrap_or(i32::MAX))
        .bind(i32::try_from(settings.max).unwrap_or(i32::MAX))
        .bind(i32::try_from(settings.spares).unwrap_or(i32::MAX))
        .bind(settings.owner.as_str())
        .bind(settings.strategy.as_str())
        .bind(extensions)
        .bind(roles)
        .bind(i32::try_from(settings.keep_templates).unwrap_or(i32::MAX))
        .bind(i64::try_from(settings.template_max_age_seconds).unwrap_or(i64::MAX))
        .bind(settings.login.as_str())
        .bind(i32::try_from(settings.connection_limit).unwrap_or(i32::MAX))
        .bind(i64::try_from(settings.idle_pool_seconds).unwrap_or(i64::MAX))
        .bind(schemas)
        .bind(settings.act_as.as_str())
        .bind(&settings.locale.locale)
        .bind(&settings.locale.encoding)
        .bind(&settings.locale.icu_locale)
        .execute(&mut *transaction)
        .await?;
    if let Some(before) = &before
        && !has_the_same_logins(&before.settings, &settings)
    {
        retire_unused(&mut transaction, name).await?;
    }
    if before.as_ref().is_some_and(|before| settings.max < before.settings.max) {
        retire_above(&mut transaction, name, settings.max).await?;
    }
    transaction.commit().await?;
    let sourced = patch.sourced.unwrap_or(before.as_ref().is_some_and(|before| before.sourced));
    let current_template = before.and_then(|before| before.current_template);
    Ok((Pool { name: name.clone(), settings, sourced, dropping: false, unused_seconds: 0, current_template }, is_new))
}

/// A login gets its rights when its database is cloned.
fn has_the_same_logins(before: &PoolSettings, after: &PoolSettings) -> bool {
    let of =
        |settings: &PoolSettings| (settings.login, settings.act_as, settings.connection_limit, settings.owner.clone());
    of(before) == of(after)
}

/// Retires clones whose logins have the rights of earlier settings. A spare that a reset has reserved is used all the same.
async fn retire_unused(transaction: &mut PgConnection, pool: &PoolName) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update databases d set state = 'retiring', reason = 'the logins of its pool were set otherwise'
         where d.pool = $1 and d.state in ('spare', 'ready') and not exists (select from leases where reset_to = d.id)",
    )
    .bind(pool.as_str())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Retires ready databases above a lowered `max`, the highest slots first: until the next plan an acquire would grant them. Leases stay.
async fn retire_above(transaction: &mut PgConnection, pool: &PoolName, max: u32) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update databases set state = 'retiring', reason = 'the max of its pool was lowered'
         where state = 'ready' and id in (
             select id from databases where pool = $1 and state = 'ready' order by slot desc
             limit greatest(0, (select count(*) from databases where pool = $1 and state in ('ready', 'leased')) - $2))",
    )
    .bind(pool.as_str())
    .bind(i64::from(max))
    .execute(transaction)
    .await?;
    Ok(())
}

/// No role can give rights that it does not have.
fn refuse_missing_rights(backend: &PgBackend, settings: &PoolSettings) -> Result<(), InvalidName> {
    let facts = backend.facts();
    if facts.rights == Rights::DatabasesAndRoles && settings.login == LoginRights::Superuser {
        let rule =
            format!("\"superuser\" needs a daemon that is superuser itself, and role \"{}\" is none", facts.role);
        return Err(InvalidName { field: "login", rule });
    }
    Ok(())
}

/// Whether the operating system has a locale shows at the build.
async fn refuse_unknown_locale(backend: &PgBackend, locale: &Locale) -> Result<()> {
    if !locale.icu_locale.is_empty() {
        // Made by `initdb`; newer servers list `unicode` in any case.
        let has_icu: bool = sqlx::query_scalar("select exists (select from pg_collation where collname = 'und-x-icu')")
            .fetch_one(&backend.catalog())
            .await?;
        let facts = backend.facts();
        if facts.major < 15 || !has_icu {
            let what = if has_icu { "" } else { " without ICU" };
            let rule =
                format!("needs Postgres 15 or later with ICU, and this server is Postgres {}{what}", facts.major);
            return Err(InvalidName { field: "icu_locale", rule: format!("{rule}; set `locale` instead") }.into());
        }
    }
    if locale.encoding.is_empty() {
        return Ok(());
    }
    // The numbers above 34 (KOI8U) are encodings for clients alone.
    let is_known: bool = sqlx::query_scalar("select pg_char_to_encoding($1::name) between 0 and 34")
        .bind(&locale.encoding)
        .fetch_one(&backend.catalog())
        .await?;
    if is_known {
        return Ok(());
    }
    let rule = "must be an encoding that Postgres has for databases, such as UTF8, LATIN1 or SQL_ASCII";
    Err(InvalidName { field: "encoding", rule: format!("{rule}, not \"{}\"", locale.encoding) }.into())
}

/// A login becomes a member of the pool's roles. A role that pgdibs did not create may own things in other databases of this server, and
/// a superuser role everything; so only roles that pgdibs created, or will create, are used.
async fn refuse_foreign_roles(backend: &PgBackend, pool: &PoolName, settings: &PoolSettings) -> Result<()> {
    let refuse = |is_owner: bool, rule: String| {
        Err(InvalidName { field: if is_owner { "owner" } else { "roles" }, rule }.into())
    };
    let mut names: Vec<&str> = settings.roles.iter().map(RoleName::as_str).collect();
    names.push(settings.owner.as_str());
    // A member of the role that owns the databases can drop them.
    if let Some(own) = names.iter().find(|name| **name == "pgdibs_owner" || RoleName::is_generated_login(name)) {
        let rule = format!("role \"{own}\" is one that pgdibs makes for itself; name another");
        return refuse(*own == settings.owner.as_str(), rule);
    }
    // It may be another pool's owner, as which each of its members can act.
    if let Some(own) = settings.roles.iter().find(|role| role.as_str().starts_with("pgdibs_")) {
        let rule = format!(
            "role \"{own}\" has a name that pgdibs gives to the owners of pools; name another, without pgdibs_ in front"
        );
        return refuse(false, rule);
    }
    let found: Vec<(String, bool)> = sqlx::query_as(
        "select r.rolname::text, exists (
                select from pg_roles m where pg_has_role(r.oid, m.oid, 'member')
                  and (m.rolsuper or m.rolcreaterole or m.rolcreatedb or m.rolreplication or m.rolbypassrls
                       or m.rolname in ('pgdibs_owner', 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
                                        'pg_signal_backend', 'pg_read_all_stats')))
         from pg_roles r where r.rolname = any($1) and r.rolname not in (select name from roles)",
    )
    .bind(&names)
    .fetch_all(&backend.catalog())
    .await?;
    for (name, privileged) in found {
        let is_owner = name == settings.owner.as_str();
        // An existing ordinary role may be the owner, because the configuration names it on purpose; but not under the name of the pool's
        // own role, which pgdibs creates and drops with the pool.
        let is_own = is_owner && settings.owner == RoleName::of_pool(pool);
        if privileged || !is_owner || is_own {
            let what_to_do = if is_own {
                format!(
                    "It carries the name of the role that pgdibs makes for pool \"{pool}\": drop or rename it, or name another `owner` in the configuration"
                )
            } else if is_owner {
                "Name a role that does not exist yet".to_owned()
            } else {
                "Leave it out of `roles`: grants and policies may name it all the same; to act as it, or to give it objects, a build needs \
                 `login = \"superuser\"`"
                    .to_owned()
            };
            let rule = format!(
                "role \"{name}\" exists and was not made by pgdibs; every lease would act as it{}. {what_to_do}",
                if privileged { ", with its rights over the whole server" } else { "" }
            );
            return refuse(is_owner, rule);
        }
    }
    Ok(())
}

async fn refuse_foreign_databases(backend: &PgBackend, pool: &PoolName) -> Result<()> {
    let mut names: Vec<String> = sqlx::query_scalar(
        "select p.datname::text from pg_database p
         where starts_with(p.datname::text, $1 || '_')
           and not exists (select from databases d where d.name = p.datname)
           and not exists (select from templates t where t.name = p.datname)
         order by 1",
    )
    .bind(pool.as_str())
    .fetch_all(&backend.catalog())
    .await?;
    names.retain(|name| DatabaseName::recognise(pool, name).is_some());
    if names.is_empty() { Ok(()) } else { Err(Error::ForeignDatabases { pool: pool.to_string(), names }.into()) }
}

/// Refuses at once a number that no wait can satisfy, with the limit, the setting and the number.
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
            "{wanted} databases at once do not fit this server: its max_connections leaves {by_connections} beside the daemon's own {OWN_CONNECTIONS}; raise max_connections, or use fewer workers"
        )));
    }
    Ok(())
}

pub(crate) async fn mark_dropping(backend: &PgBackend, pool: &PoolName, force: bool) -> Result<()> {
    find(backend, pool).await?;
    let mut transaction = backend.transaction().await?;
    let name = pool.as_str();
    for statement in [
        // From here on the pool grants nothing: `find` skips a pool that is being dropped.
        "update pools set dropping = true where name = $1",
        // An acquire locks its template's row and needs it ready, so none grants a lease in between. Two statements: a statement that
        // began before an acquire's commit does not see its lease.
        "select from templates where pool = $1 for update",
        "update templates set state = 'retiring', detail = 'its pool was dropped' where pool = $1 and state = 'ready'",
    ] {
        sqlx::query(statement).bind(name).execute(&mut *transaction).await?;
    }
    let holders: Vec<String> = sqlx::query_scalar(
        "select coalesce(nullif(holder, ''), worker, 'an unnamed holder') from leases where pool = $1 and state = 'live' for update",
    )
    .bind(name)
    .fetch_all(&mut *transaction)
    .await?;
    if !holders.is_empty() && !force {
        return Err(Error::PoolInUse { pool: name.to_owned(), live: holders.len(), holders: holders.join(", ") }.into());
    }
    for statement in [
        "with ended as (
             update leases set state = 'revoked', ended_at = now(), ended_reason = 'its pool was dropped by force', reset_to = null
             where pool = $1 and state = 'live' returning database_id)
         update databases d set state = 'retiring', keep_until = null, reason = 'its pool was dropped'
         from ended where d.id = ended.database_id",
        // The waiters try again after this change, and find no pool then.
        "delete from tickets where pool = $1",
        "update databases set keep_until = now() where pool = $1 and state = 'kept'",
    ] {
        sqlx::query(statement).bind(name).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}
