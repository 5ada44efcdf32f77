//! Builds: the place for a builder to work in, and the seal that makes a template of it.

use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName};
use pgdibs_core::template::TemplateId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::clone::{MadeBy, make_login, make_role};
use super::drop::drop_logins;
use super::outcome::{sql, stale};
use super::sessions::end_sessions;
use super::sessions::{PATIENT, end_sessions_and_logins};
use super::{pre_drop, seal, tenants};
use crate::context::PgBackend;
use crate::ddl::{self, Ddl, LoginKind};
use crate::failpoint::{Point, reach};
use crate::rights::Rights;
use crate::sqlstate::{self, Meaning};

/// A template in the making.
struct Build {
    id: i64,
    pool: PoolName,
    fingerprint: Fingerprint,
    name: DatabaseName,
    oid: Option<i64>,
    password: String,
    owner: RoleName,
    extensions: Vec<String>,
    roles: Vec<String>,
}

async fn find(connection: &mut PgConnection, template: TemplateId) -> Result<Build, StepError> {
    let row = sql(sqlx::query(
        "select t.id, t.pool, t.fingerprint, t.name, t.oid, t.password, p.owner, p.extensions, p.roles
         from templates t join pools p on p.name = t.pool where t.id = $1 and t.state = 'building'",
    )
    .bind(template.0)
    .fetch_optional(connection)
    .await)?;
    let Some(row) = row else { return Err(stale("the template is not building any more")) };
    let text = |column: &str| sql(row.try_get::<String, _>(column));
    let invalid = |e: pgdibs_core::name::InvalidName| StepError::Failed(e.to_string());
    let pool = PoolName::parse(&text("pool")?).map_err(invalid)?;
    Ok(Build {
        id: template.0,
        fingerprint: Fingerprint::parse(&text("fingerprint")?).map_err(invalid)?,
        name: DatabaseName::recognise(&pool, &text("name")?)
            .ok_or_else(|| StepError::Failed("the catalog holds an impossible name".to_owned()))?,
        pool,
        oid: sql(row.try_get("oid"))?,
        password: text("password")?,
        owner: RoleName::parse("owner", &text("owner")?).map_err(invalid)?,
        extensions: sql(row.try_get("extensions"))?,
        roles: sql(row.try_get("roles"))?,
    })
}

/// The login that builds.
fn builder(build: &Build) -> RoleName {
    RoleName::login(build.id)
}

/// Creates roles, login and database for a build; extensions and schema `public` are prepared by our own role, since the
/// builder is no superuser. The builder learns of the place when the row carries the oid.
pub(super) async fn create(
    backend: &PgBackend,
    connection: &mut PgConnection,
    template: TemplateId,
) -> Result<(), StepError> {
    let build = find(connection, template).await?;
    make_role(backend, connection, &build.owner, MadeBy::of(&build.owner, &build.pool)).await?;
    for role in &build.roles {
        let role = RoleName::parse("roles", role).map_err(|e| StepError::Failed(e.to_string()))?;
        make_role(backend, connection, &role, MadeBy::Us).await?;
        // The owner may then hand objects to the role, and every login acts as the owner.
        sql(ddl::grant_role(&role, &build.owner, backend.connections.facts.major).run(connection).await)?;
    }
    reach(Point::BuildRolesMade).await;
    let login = builder(&build);
    let kind = LoginKind::plain(backend.connections.facts.rights);
    make_login(backend, connection, &login, &build.password, &build.owner, kind).await?;
    reach(Point::BuildLoginMade).await;
    remove_half_made(backend, connection, &build.name).await?;
    give_name(connection, ddl::create_build(&build.name, &RoleName::database_owner())).await?;
    reach(Point::BuildCreated).await;
    let result = prepare(backend, connection, &build, &login).await;
    reach(Point::BuildPrepared).await;
    // With the oid known, a failed build is dropped by its identity.
    let ready = result.is_ok();
    sql(sqlx::query(
        "update templates t set oid = p.oid::int8, build_heard_at = now(),
                state = case when $3 then state else 'failed' end, detail = case when $3 then detail else $4 end
         from pg_database p join pg_roles r on r.oid = p.datdba
         where t.id = $1 and t.state = 'building' and p.datname = t.name and r.rolname = $2",
    )
    .bind(build.id)
    .bind(RoleName::database_owner().as_str())
    .bind(ready)
    .bind(result.as_ref().err().map(ToString::to_string))
    .execute(connection)
    .await)?;
    reach(Point::BuildRecorded).await;
    result
}

/// Drops what a predecessor that died made under the build's name: it may have been open to other roles since, and extensions are
/// made where no other role has been. A database of another owner is left alone.
async fn remove_half_made(
    backend: &PgBackend,
    connection: &mut PgConnection,
    name: &DatabaseName,
) -> Result<(), StepError> {
    let found: Option<(i64, bool, bool)> = sql(sqlx::query_as(
        "select p.oid::int8, r.rolname = $2::name, p.datconnlimit = -2
         from pg_database p join pg_roles r on r.oid = p.datdba where p.datname = $1::name",
    )
    .bind(name.as_str())
    .bind(RoleName::database_owner().as_str())
    .fetch_optional(&mut *connection)
    .await)?;
    let Some((oid, ours, invalid)) = found else { return Ok(()) };
    if !ours {
        return free_name(backend, connection, name).await;
    }
    if !invalid {
        sql(ddl::allow_connections(name, false).run(connection).await)?;
        if !end_sessions(connection, &[oid]).await?.is_empty() {
            return Err(super::outcome::stuck());
        }
    }
    sql(ddl::drop_database(name).run(connection).await)
}

/// Extensions and schema `public`, before the first session of the builder; its right to connect comes last.
async fn prepare(
    backend: &PgBackend,
    connection: &mut PgConnection,
    build: &Build,
    login: &RoleName,
) -> Result<(), StepError> {
    sql(ddl::open_to_the_daemon(&build.name).run(connection).await)?;
    let facts = &backend.connections.facts;
    let mut inside = sql(backend.connections.address.connect(build.name.as_str(), &application(backend)).await)?;
    for extension in &build.extensions {
        if let Err(error) = ddl::create_extension(extension).run(&mut inside).await {
            return Err(StepError::Failed(format!(
                "extension \"{extension}\" (pool setting `extensions`) cannot be made: {}",
                sqlstate::sentence(&error)
            )));
        }
    }
    if facts.rights == Rights::Superuser || facts.major >= 15 {
        // On 14 schema `public` belongs to the bootstrap superuser and is open to everybody, so a lesser role can leave it.
        sql(ddl::give_public_schema(&build.owner).run(&mut inside).await)?;
    }
    sql(inside.close().await)?;
    sql(ddl::close_to_all_but(&build.name, login, &build.owner).run(connection).await)
}

fn application(backend: &PgBackend) -> String {
    format!("{}{}", crate::connections::DDL_APPLICATION, backend.connections.instance)
}

/// Ends the builder's sessions, makes the database fit to be copied, reads what cloning will not copy, closes it and publishes it by rename.
pub(super) async fn seal(
    backend: &PgBackend,
    connection: &mut PgConnection,
    template: TemplateId,
) -> Result<(), StepError> {
    let build = find(connection, template).await?;
    let oid = build.oid.ok_or_else(|| stale("the build's database is not there yet"))?;
    let published = DatabaseName::template(&build.pool, &build.fingerprint);
    if in_our_way(connection, &published).await? {
        return Err(stale("an older template of the same name is being dropped"));
    }
    let login = builder(&build);
    // Before the login closes as well: an open or prepared transaction of the builder may hold the login's row, and tables.
    if !end_sessions(connection, &[oid]).await?.is_empty() {
        return Err(stuck());
    }
    pre_drop::roll_back_all(backend, connection, &[(oid, &build.name)]).await?;
    shut_out(connection, oid, &login).await?;
    reach(Point::SealFenced).await;
    seal::compact_what_the_builder_made(backend, connection, &build.name, &login, &application(backend)).await?;
    shut_out(connection, oid, &login).await?;
    let relations = finish_inside(backend, &build, &login).await?;
    reach(Point::SealCompacted).await;
    let settings = settings(connection, oid, &build, &login).await?;
    let grants = grants(connection, oid, &build, &login).await?;
    sql(ddl::allow_connections(&build.name, false).run(connection).await)?;
    reach(Point::SealClosed).await;
    if !end_sessions(connection, &[oid]).await?.is_empty() {
        return Err(stuck());
    }

    free_name(backend, connection, &published).await?;
    let mut transaction = sql(connection.begin().await)?;
    let locked =
        sql(sqlx::query("select from templates where id = $1 and state = 'building' and oid = $2 for update")
            .bind(build.id)
            .bind(oid)
            .fetch_optional(&mut *transaction)
            .await)?;
    if locked.is_none() {
        return Err(stale("the build was abandoned meanwhile"));
    }
    // No template by its flag, which would let every role with CREATEDB copy it: the daemon copies it as its owner.
    let publish = ddl::bound_statements()
        .then(ddl::rename(&build.name, &published))
        .then(ddl::revoke_connect(&published, &login));
    give_name(&mut transaction, publish).await?;
    sql(sqlx::query(
        "update templates set state = 'ready', name = $2, settings = $3, grants = $4, relations = $5,
                size_bytes = pg_database_size($6::oid), built_at = clock_timestamp(), last_used_at = now(),
                built_seconds = extract(epoch from clock_timestamp() - build_started_at), detail = null
         where id = $1",
    )
    .bind(build.id)
    .bind(published.as_str())
    .bind(settings)
    .bind(grants)
    .bind(relations)
    .bind(sqlx::postgres::types::Oid(u32::try_from(oid).unwrap_or(0)))
    .execute(&mut *transaction)
    .await)?;
    reach(Point::SealRenamed).await;
    sql(transaction.commit().await)?;
    reach(Point::SealPublished).await;
    // Nothing names it any more. Should this fail, the sweep takes it.
    let _ = drop_logins(backend, connection, &[login.to_string()]).await;
    Ok(())
}

/// Runs what gives a database its name. Another database took the name in this moment if it is not free: the next attempt says whose.
async fn give_name(connection: &mut PgConnection, statements: Ddl) -> Result<(), StepError> {
    match statements.run(connection).await {
        Err(error) if sqlstate::meaning(&error) == Meaning::Exists => Err(stale("another database took the name")),
        done => sql(done),
    }
}

/// Makes sure that a name is free: a database of tests loses it, any other one keeps it.
async fn free_name(backend: &PgBackend, connection: &mut PgConnection, name: &DatabaseName) -> Result<(), StepError> {
    if tenants::free_name(backend, connection, name).await? {
        return Ok(());
    }
    let taken: bool = sql(sqlx::query_scalar("select exists (select from pg_database where datname = $1::name)")
        .bind(name.as_str())
        .fetch_one(connection)
        .await)?;
    if taken { Err(in_the_way(name)) } else { Ok(()) }
}

fn in_the_way(name: &DatabaseName) -> StepError {
    StepError::Failed(format!(
        "a database \"{name}\" that pgdibs did not make is in the way; drop it with: dropdb '{name}'"
    ))
}

/// Whether one of our own, retiring, still carries the name.
async fn in_our_way(connection: &mut PgConnection, published: &DatabaseName) -> Result<bool, StepError> {
    sql(sqlx::query_scalar("select exists (select from templates where name = $1 and state <> 'building')")
        .bind(published.as_str())
        .fetch_one(connection)
        .await)
}

/// Closes the builder's login, and ends the sessions on the build's database and those of the login elsewhere.
async fn shut_out(connection: &mut PgConnection, oid: i64, login: &RoleName) -> Result<(), StepError> {
    sql(ddl::bound_statements().then(ddl::close_login(login)).run(connection).await)?;
    let left = end_sessions_and_logins(connection, &[oid], &[login.as_str()], PATIENT).await?;
    if left.is_empty() { Ok(()) } else { Err(stuck()) }
}

fn stuck() -> StepError {
    StepError::Failed("a session of the builder did not end within 2 s of being told to".to_owned())
}

/// The daemon's own work inside the build's database, with no other session there: what the builder made under its own name goes to the
/// owner, and the tables that `initdb` made are compacted. Returns the number of relations, for the lock table's warning.
async fn finish_inside(backend: &PgBackend, build: &Build, login: &RoleName) -> Result<i64, StepError> {
    let facts = &backend.connections.facts;
    let address = &backend.connections.address;
    let mut inside = sql(address.connect(build.name.as_str(), &application(backend)).await)?;
    sql(ddl::reassign_owned(login, &build.owner).run(&mut inside).await)?;
    let public: bool = sql(sqlx::query_scalar(
        "select exists (select from pg_catalog.pg_namespace where nspname = 'public'::pg_catalog.name)",
    )
    .fetch_one(&mut inside)
    .await)?;
    if public && (facts.rights == Rights::Superuser || facts.major >= 15) {
        sql(ddl::give_public_schema(&build.owner).run(&mut inside).await)?;
    }
    seal::compact_catalogs(&mut inside).await?;
    let relations = sql(seal::relations(&mut inside).await)?;
    sql(inside.close().await)?;
    // VACUUM removed the file with which a session begins (`pg_internal.init`), and the next session writes it. A copy by files
    // takes it along, so that no first session of a clone has to.
    let first = sql(address.connect(build.name.as_str(), &application(backend)).await)?;
    sql(first.close().await)?;
    Ok(relations)
}

/// `alter database … set`, and what the builder or the owner set for themselves in this database: a clone's login is neither,
/// so it gets these as settings of the database; they come last, because they win over the database's own. Not which role a session
/// acts as or which library it loads: as a setting of the database that would hold for every role that enters a clone, the daemon's among them.
async fn settings(
    connection: &mut PgConnection,
    oid: i64,
    build: &Build,
    login: &RoleName,
) -> Result<Vec<String>, StepError> {
    sql(sqlx::query_scalar(
        "select setting from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole cross join unnest(s.setconfig) setting
         where s.setdatabase::int8 = $1 and (s.setrole = 0 or r.rolname in ($2, $3))
           and lower(split_part(setting, '=', 1)) not in ('role', 'session_authorization', 'local_preload_libraries')
         order by s.setrole <> 0",
    )
    .bind(oid)
    .bind(build.owner.as_str())
    .bind(login.as_str())
    .fetch_all(connection)
    .await)
}

/// Grants on the database beyond those that every clone gets, as `privilege,grantable,role`.
async fn grants(
    connection: &mut PgConnection,
    oid: i64,
    build: &Build,
    login: &RoleName,
) -> Result<Vec<String>, StepError> {
    sql(sqlx::query_scalar(
        "select a.privilege_type || ',' || a.is_grantable || ',' || r.rolname
         from pg_database d, aclexplode(d.datacl) a join pg_roles r on r.oid = a.grantee
         where d.oid::int8 = $1 and r.rolname not in ($2, $3) and a.grantee <> d.datdba order by 1",
    )
    .bind(oid)
    .bind(build.owner.as_str())
    .bind(login.as_str())
    .fetch_all(connection)
    .await)
}
