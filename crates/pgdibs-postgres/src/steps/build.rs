//! Builds: the database for a builder to work in, and the seal that makes a template of it.

use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName};
use pgdibs_core::pool::{Extension, Locale, LoginRights, LoginSettings};
use pgdibs_core::template::TemplateId;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::drop::drop_logins;
use super::roles::{make_login, make_owner};
use super::sessions::{PATIENT, end_all_sessions, end_sessions_and_logins};
use super::step_context::StepContext;
use super::{extensions, listed_roles, pre_drop, seal, tenants};
use crate::collations;
use crate::context::PgBackend;
use crate::ddl::{self, DatabaseLocale, Ddl, LocaleClauses};
use crate::error::{PgError, Result, failed, stale, stuck};
use crate::requests::pools;
use crate::rights::Rights;
use crate::rows::{Columns as _, invalid};
use crate::sqlstate::{self, ErrorClass};
use pgdibs_failpoint::{Failpoint, reach};

struct Build {
    id: i64,
    pool: PoolName,
    fingerprint: Fingerprint,
    name: DatabaseName,
    oid: Option<i64>,
    /// The login that builds, and its password.
    login: RoleName,
    password: String,
    owner: RoleName,
    /// Of a pool whose leases are superusers.
    by_superuser: bool,
    extensions: Vec<Extension>,
    roles: Vec<RoleName>,
    locale: Locale,
    /// The database that the daemon copies.
    copy_of: Option<String>,
}

impl Build {
    fn read(row: PgRow) -> Result<Self, sqlx::Error> {
        let id = row.try_get("id")?;
        let roles: Vec<String> = row.try_get("roles")?;
        let roles = roles.iter().map(|role| RoleName::parse("roles", role)).collect::<Result<_, _>>();
        Ok(Self {
            id,
            pool: row.pool()?,
            fingerprint: row.fingerprint()?,
            name: row.database("name")?,
            oid: row.try_get("oid")?,
            login: RoleName::login(id),
            password: row.try_get("password")?,
            owner: row.role("owner")?,
            by_superuser: row.parsed("may", LoginRights::parse)? == LoginRights::Superuser,
            extensions: pools::extensions(&row)?,
            roles: roles.map_err(|_| invalid("roles"))?,
            locale: pools::locale(&row)?,
            copy_of: row.try_get("copy_of")?,
        })
    }
}

async fn find(connection: &mut PgConnection, template: TemplateId) -> Result<Build> {
    let build = sqlx::query(
        "select t.id, t.pool, t.fingerprint, t.name, t.oid, t.password, p.owner, p.login as may, p.extensions, p.extension_schemas, p.roles,
                p.locale, p.encoding, p.icu_locale, t.copy_of
         from templates t join pools p on p.name = t.pool where t.id = $1 and t.state = 'building'",
    )
    .bind(template.0)
    .try_map(Build::read)
    .fetch_optional(connection)
    .await?;
    build.ok_or_else(|| stale("the template is not building any more"))
}

/// Creates roles, login and database for a build. The daemon prepares extensions and schema `public`, since the builder is no superuser,
/// unless the pool's leases are. The builder gets the place when the row has the oid.
pub(super) async fn create(ctx: &mut StepContext<'_>, template: TemplateId) -> Result<()> {
    let build = find(ctx.connection, template).await?;
    make_owner(ctx, &build.owner, &build.pool).await?;
    forget_settings(ctx.connection, &build.owner).await?;
    listed_roles::give(ctx, &build.roles, &build.owner).await?;
    reach(Failpoint::BuildRolesMade).await;
    let password = build.password.clone();
    let rights = if build.by_superuser { LoginRights::Superuser } else { LoginRights::Plain };
    let settings = LoginSettings { rights, ..LoginSettings::default() };
    make_login(ctx, &build.login, password, &build.owner, settings, 0).await?;
    reach(Failpoint::BuildLoginMade).await;
    remove_half_made(ctx, &build.name).await?;
    let locale = locale_of(ctx, &build).await?;
    let database = ddl::create_build(&build.name, &RoleName::database_owner(), &locale);
    match database.run(ctx.connection).await {
        // The codes for an unknown locale differ between versions.
        Err(error) if build.locale != Locale::default() && sqlstate::class(&error) == ErrorClass::Other => {
            return Err(failed(format!(
                "the template's database cannot be made with the pool's `locale`, `encoding` and `icu_locale`: {}; \
                 `locale -a` on the server's machine lists its locales, each of which has one encoding; locale C goes with every encoding",
                sqlstate::sentence(&error)
            )));
        }
        made => made.map_err(taken)?,
    }
    reach(Failpoint::BuildCreated).await;
    let result = prepare(ctx, &build).await.map_err(pgdibs_core::error::StepError::from);
    reach(Failpoint::BuildPrepared).await;
    // A failed build gets its oid too, by which it is dropped.
    sqlx::query(
        "update templates t set oid = s.oid::int8, build_heard_at = now(),
                state = case when $2::text is null then state else 'failed' end, detail = coalesce($2, detail)
         from server_databases s where t.id = $1 and t.state = 'building' and s.name = t.name and s.ours",
    )
    .bind(build.id)
    .bind(result.as_ref().err().map(ToString::to_string))
    .execute(&mut *ctx.connection)
    .await?;
    reach(Failpoint::BuildRecorded).await;
    Ok(result?)
}

/// A template has the settings that the migrations gave the owner role (`alter role current_user set`), so those of earlier builds have to go.
/// A role that is not pgdibs's keeps its own.
async fn forget_settings(connection: &mut PgConnection, owner: &RoleName) -> Result<()> {
    let has_earlier: bool = sqlx::query_scalar(
        "select exists (select from roles where name = $1)
            and exists (select from pg_db_role_setting where setdatabase = 0 and setrole = to_regrole(quote_ident($1)))
            and not exists (select from templates t join pools p on p.name = t.pool
                            where p.owner = $1 and t.state = 'building' and t.oid is not null)",
    )
    .bind(owner.as_str())
    .fetch_one(&mut *connection)
    .await?;
    if has_earlier {
        ddl::forget_settings(owner).run(connection).await?;
    }
    Ok(())
}

/// The locale that the pool sets; for a copy of a database of a pool that sets none, the locale of that database.
async fn locale_of(ctx: &mut StepContext<'_>, build: &Build) -> Result<LocaleClauses, sqlx::Error> {
    if let (Some(database), true) = (&build.copy_of, build.locale == Locale::default()) {
        // The columns of ICU and the builtin provider depend on the version.
        let found: Option<DatabaseLocale> = sqlx::query_as(
            "select pg_encoding_to_char(encoding)::text as encoding, datcollate::text as collate, datctype::text as ctype,
                    to_jsonb(d) ->> 'datlocprovider' as provider,
                    coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') as locale, to_jsonb(d) ->> 'daticurules' as rules
             from pg_database d where datname = $1",
        )
        .bind(database)
        .fetch_optional(&mut *ctx.connection)
        .await?;
        return Ok(found.map(|locale| locale.clauses()).unwrap_or_default());
    }
    Ok(LocaleClauses::of_pool(&build.locale, ctx.backend.facts().major))
}

/// Drops what a daemon that died created under the build's name: other roles may have entered it since, and extensions are created where no
/// other role has been. A foreign database stays.
async fn remove_half_made(ctx: &mut StepContext<'_>, name: &DatabaseName) -> Result<()> {
    let found: Option<(i64, bool, bool)> =
        sqlx::query_as("select oid::int8, ours, invalid from server_databases where name = $1::name")
            .bind(name.as_str())
            .fetch_optional(&mut *ctx.connection)
            .await?;
    let Some((oid, ours, invalid)) = found else { return Ok(()) };
    if !ours {
        return free_name(ctx, name).await;
    }
    if !invalid {
        ddl::allow_connections(name, false).run(ctx.connection).await?;
        end_all_sessions(ctx.connection, oid).await?;
    }
    Ok(ddl::drop_database(name).run(ctx.connection).await?)
}

/// Whether schema `public` can be given to the owner. On 14 it belongs to the bootstrap superuser and every role can create in it, so a
/// daemon that is no superuser leaves it.
fn may_give_public_schema(backend: &PgBackend) -> bool {
    backend.facts().rights == Rights::Superuser || backend.facts().major >= 15
}

/// Extensions and schema `public`, before the builder's first session; its right to connect comes last.
async fn prepare(ctx: &mut StepContext<'_>, build: &Build) -> Result<()> {
    ddl::open_to_the_daemon(&build.name).run(ctx.connection).await?;
    // The owner creates trusted extensions.
    if let Some(grant) = ddl::grant(&build.name, build.owner.as_str(), "CREATE", false) {
        grant.run(ctx.connection).await?;
    }
    let mut inside = connect(ctx.backend, build).await?;
    if may_give_public_schema(ctx.backend) {
        ddl::give_public_schema(&build.owner).run(&mut inside).await?;
        if !build.roles.is_empty() {
            ddl::grant_create_in_public(&build.roles).run(&mut inside).await?;
        }
    }
    extensions::create(&mut inside, &build.extensions, &build.owner).await?;
    inside.close().await?;
    Ok(ddl::close_to_all_but(&build.name, &build.login, &build.owner).run(ctx.connection).await?)
}

async fn connect(backend: &PgBackend, build: &Build) -> Result<PgConnection, sqlx::Error> {
    backend.connections.address.connect(build.name.as_str(), &backend.ddl_application()).await
}

/// Ends the builder's sessions, compacts the database, reads what cloning does not copy, closes the database and publishes it by rename.
pub(super) async fn seal(ctx: &mut StepContext<'_>, template: TemplateId) -> Result<()> {
    let build = find(ctx.connection, template).await?;
    let oid = build.oid.ok_or_else(|| stale("the build's database does not exist yet"))?;
    let published = DatabaseName::template(&build.pool, &build.fingerprint);
    let is_used: bool =
        sqlx::query_scalar("select exists (select from templates where name = $1 and state <> 'building')")
            .bind(published.as_str())
            .fetch_one(&mut *ctx.connection)
            .await?;
    if is_used {
        return Err(stale("an older template of the same name is being dropped"));
    }
    // Before the login closes as well: an open or prepared transaction of the builder may hold the login's row, and tables.
    end_all_sessions(ctx.connection, oid).await?;
    pre_drop::roll_back_all(ctx, &[(oid, &build.name)]).await?;
    shut_out(ctx.connection, oid, &build.login).await?;
    // What the builder prepared until its login closed.
    pre_drop::roll_back_left(ctx, oid, &build.name).await?;
    reach(Failpoint::SealFenced).await;
    seal::compact_what_the_builder_made(ctx, &build.name, &build.login).await?;
    shut_out(ctx.connection, oid, &build.login).await?;
    let (relations, collations) = finish_inside(ctx.backend, &build).await?;
    reach(Failpoint::SealCompacted).await;
    ddl::allow_connections(&build.name, false).run(ctx.connection).await?;
    reach(Failpoint::SealClosed).await;
    end_all_sessions(ctx.connection, oid).await?;

    free_name(ctx, &published).await?;
    let mut transaction = ctx.connection.begin().await?;
    // Before the template's row is locked: the drop of a pool locks in this order.
    sqlx::query("update pools set current_template = $1 where name = $2")
        .bind(build.id)
        .bind(build.pool.as_str())
        .execute(&mut *transaction)
        .await?;
    let locked = sqlx::query("select from templates where id = $1 and state = 'building' and oid = $2 for update")
        .bind(build.id)
        .bind(oid)
        .fetch_optional(&mut *transaction)
        .await?;
    if locked.is_none() {
        return Err(stale("the build was abandoned"));
    }
    // Without the template flag, with which every role with CREATEDB could copy it: the daemon copies it as its owner.
    let publish = ddl::bound_statements()
        .then(ddl::rename(&build.name, &published))
        .then(ddl::revoke_connect(&published, &build.login));
    give_name(&mut transaction, publish).await?;
    sqlx::query(include_str!("../../sql/publish_template.sql"))
        .bind(build.id)
        .bind(published.as_str())
        .bind(relations)
        .bind(Oid(u32::try_from(oid).unwrap_or(0)))
        .bind(build.owner.as_str())
        .bind(build.login.as_str())
        .bind(collations)
        .execute(&mut *transaction)
        .await?;
    listed_roles::take_back(&mut transaction, &build.owner, ctx.backend.facts().major).await?;
    reach(Failpoint::SealRenamed).await;
    transaction.commit().await?;
    reach(Failpoint::SealPublished).await;
    // No row names the login any more. If this fails, garbage collection drops it.
    let _ = drop_logins(ctx, &[build.login.to_string()]).await;
    Ok(())
}

/// Runs what gives a database its name. If the name was taken a moment ago, the next attempt says by which database.
async fn give_name(connection: &mut PgConnection, statements: Ddl) -> Result<()> {
    statements.run(connection).await.map_err(taken)
}

fn taken(error: sqlx::Error) -> PgError {
    match sqlstate::class(&error) {
        ErrorClass::Exists => stale("another database took the name"),
        _ => error.into(),
    }
}

/// Makes sure that a name is free: a database of tests is renamed, any other one keeps it.
async fn free_name(ctx: &mut StepContext<'_>, name: &DatabaseName) -> Result<()> {
    if tenants::free_name(ctx, name).await? {
        return Ok(());
    }
    let taken: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1::name)")
        .bind(name.as_str())
        .fetch_one(&mut *ctx.connection)
        .await?;
    if !taken {
        return Ok(());
    }
    Err(failed(format!("a database \"{name}\" that pgdibs did not make is in the way; drop it with: dropdb '{name}'")))
}

/// Closes the builder's login, and ends the sessions on the build's database and those of the login elsewhere.
async fn shut_out(connection: &mut PgConnection, oid: i64, login: &RoleName) -> Result<()> {
    ddl::bound_statements().then(ddl::close_login(login)).run(connection).await?;
    let left = end_sessions_and_logins(connection, &[oid], &[login.as_str()], PATIENT).await?;
    if left.is_empty() { Ok(()) } else { Err(stuck()) }
}

/// The daemon's own work inside the build's database, with no other session there: gives what the builder created under its own name to the
/// owner, and compacts the tables that `initdb` created. Returns the number of relations, for the warning about the lock table, and the
/// versions of the collations.
async fn finish_inside(backend: &PgBackend, build: &Build) -> Result<(i64, Option<String>)> {
    let mut inside = connect(backend, build).await?;
    ddl::bound_locks().run(&mut inside).await?;
    extensions::keep_for_superusers(&mut inside, &build.login).await?;
    ddl::reassign_owned(&build.login, &build.owner).run(&mut inside).await.map_err(|error| held(&build.name, error))?;
    let public: bool = sqlx::query_scalar(
        "select exists (select from pg_catalog.pg_namespace where nspname = 'public'::pg_catalog.name)",
    )
    .fetch_one(&mut inside)
    .await?;
    if public && may_give_public_schema(backend) {
        let revoke = ddl::revoke_create_in_public(&build.owner);
        let give = ddl::give_public_schema(&build.owner).then(revoke);
        give.run(&mut inside).await.map_err(|error| held(&build.name, error))?;
    }
    seal::compact_catalogs(&mut inside, &build.name).await?;
    let relations = seal::relations(&mut inside).await?;
    let collations = collations::read(&mut inside).await?;
    inside.close().await?;
    // VACUUM removed the file with which a session starts (`pg_internal.init`), and the next session writes it. A copy by files has it then,
    // so that the first session of a clone does not have to write it.
    if let Ok(session) = connect(backend, build).await {
        session.close().await?;
    }
    Ok((relations, collations))
}

/// A lock that a statement of the seal does not get is held by no tenant: their sessions and prepared transactions have ended.
fn held(build: &DatabaseName, error: sqlx::Error) -> PgError {
    match sqlstate::code(&error).as_deref() {
        Some("55P03") => failed(format!(
            "a session or a prepared transaction of another role holds a lock in database \"{build}\", so that its objects cannot be given to the pool's owner: {}; \
             it is in pg_locks of that database or in pg_prepared_xacts",
            sqlstate::sentence(&error)
        )),
        _ => error.into(),
    }
}
