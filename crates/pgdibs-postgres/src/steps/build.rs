//! Builds: the place for a builder to work in, and the seal that makes a template of it.

use pgdibs_core::error::StepError;
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName};
use pgdibs_core::template::TemplateId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::clone::{make_login, make_role};
use super::{end_sessions, sql, stale};
use crate::ddl::{self, LoginKind};
use crate::failpoint::{Point, reach};
use crate::rights::Rights;
use crate::sqlstate::{self, Meaning};
use crate::world::PgWorld;

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

/// The login that builds: of its own where we may make roles, else the shared one.
fn builder(world: &PgWorld, build: &Build) -> RoleName {
    world.shared_login().map_or_else(|| RoleName::login(build.id), |(login, _)| login.clone())
}

/// Creates roles, login and database for a build; extensions and schema `public` are prepared by our own role, since the
/// builder is no superuser. The builder learns of the place when the row carries the oid.
pub(super) async fn create(
    world: &PgWorld,
    connection: &mut PgConnection,
    template: TemplateId,
) -> Result<(), StepError> {
    let build = find(connection, template).await?;
    make_role(world, connection, &build.owner).await?;
    for role in &build.roles {
        let role = RoleName::parse("roles", role).map_err(|e| StepError::Failed(e.to_string()))?;
        make_role(world, connection, &role).await?;
        // The owner may then hand objects to the role, and every login acts as the owner.
        sql(ddl::grant_role(&role, &build.owner, world.connections.facts.major).run(connection).await)?;
    }
    reach(Point::BuildRolesMade).await;
    let login = builder(world, &build);
    let kind = LoginKind::plain(world.connections.facts.rights);
    make_login(world, connection, &login, &build.password, &build.owner, kind).await?;
    reach(Point::BuildLoginMade).await;
    match ddl::create_build(&build.name, &world.database_owner()).run(connection).await {
        Ok(()) => {}
        // A predecessor that died has made it. A stranger's is left alone.
        Err(error) if sqlstate::meaning(&error) == Meaning::Exists => {
            if !is_our_own(world, connection, &build.name).await? {
                return Err(StepError::Failed(format!(
                    "a database \"{0}\" that pgdibs did not make is in the way; drop it with: dropdb '{0}'",
                    build.name
                )));
            }
        }
        Err(error) => return Err(super::Sql(error).into()),
    }
    reach(Point::BuildCreated).await;
    let result = prepare(world, connection, &build, &login).await;
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
    .bind(world.database_owner().as_str())
    .bind(ready)
    .bind(result.as_ref().err().map(ToString::to_string))
    .execute(connection)
    .await)?;
    reach(Point::BuildNoted).await;
    result
}

async fn is_our_own(world: &PgWorld, connection: &mut PgConnection, name: &DatabaseName) -> Result<bool, StepError> {
    sql(sqlx::query_scalar(
        "select exists (select from pg_database p join pg_roles r on r.oid = p.datdba where p.datname = $1 and r.rolname = $2)",
    )
    .bind(name.as_str())
    .bind(world.database_owner().as_str())
    .fetch_one(connection)
    .await)
}

async fn prepare(
    world: &PgWorld,
    connection: &mut PgConnection,
    build: &Build,
    login: &RoleName,
) -> Result<(), StepError> {
    sql(ddl::close_to_all_but(&build.name, login, &build.owner).run(connection).await)?;
    let facts = &world.connections.facts;
    let application = format!("{}{}", crate::connect::DDL_APPLICATION, world.connections.instance);
    let mut inside = sql(world.connections.address.connect(build.name.as_str(), &application).await)?;
    for extension in &build.extensions {
        if let Err(error) = ddl::create_extension(extension).run(&mut inside).await {
            return Err(StepError::Failed(format!(
                "extension \"{extension}\" (pool setting `extensions`) cannot be made: {}",
                sqlstate::sentence(&error)
            )));
        }
    }
    if facts.rights == Rights::DatabasesOnly {
        if facts.major >= 15 {
            sql(ddl::open_public_schema(login).run(&mut inside).await)?;
        }
    } else if facts.rights == Rights::Superuser || facts.major >= 15 {
        // On 14 schema `public` belongs to the bootstrap superuser and is open to everybody, so a lesser role can leave it.
        sql(ddl::give_public_schema(&build.owner).run(&mut inside).await)?;
    }
    sql(inside.close().await)
}

/// Ends the builder's sessions, vacuums, reads what cloning will not copy, closes the database and publishes it by rename.
pub(super) async fn seal(
    world: &PgWorld,
    connection: &mut PgConnection,
    template: TemplateId,
) -> Result<(), StepError> {
    let build = find(connection, template).await?;
    let oid = build.oid.ok_or_else(|| stale("the build's database is not there yet"))?;
    let published = DatabaseName::template(&build.pool, &build.fingerprint);
    if in_our_way(connection, &published).await? {
        return Err(stale("an older template of the same name is being dropped"));
    }
    let login = builder(world, &build);
    let own_login = world.connections.facts.rights != Rights::DatabasesOnly;
    if own_login {
        sql(ddl::close_login(&login).run(connection).await)?;
    }
    let stuck = || StepError::Failed("a session of the builder did not end within 2 s of being told to".to_owned());
    if !end_sessions(connection, &[oid]).await?.is_empty() {
        return Err(stuck());
    }
    reach(Point::SealFenced).await;
    let relations = tidy(world, &build, &login).await?;
    reach(Point::SealTidied).await;
    let settings = settings(connection, oid, &build, &login).await?;
    let grants = grants(connection, oid, &build, &login).await?;
    sql(ddl::allow_connections(&build.name, false).run(connection).await)?;
    reach(Point::SealClosed).await;
    if !end_sessions(connection, &[oid]).await?.is_empty() {
        return Err(stuck());
    }

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
    let mut publish =
        ddl::bound_statements().then(ddl::rename(&build.name, &published)).then(ddl::is_template(&published, true));
    if own_login {
        publish = publish.then(ddl::revoke_connect(&published, &login));
    }
    match publish.run(&mut transaction).await {
        Ok(()) => {}
        Err(error) if sqlstate::meaning(&error) == Meaning::Exists => {
            return Err(StepError::Failed(format!(
                "a database \"{published}\" that pgdibs did not make is in the way; drop it with: dropdb '{published}'"
            )));
        }
        Err(error) => return Err(super::Sql(error).into()),
    }
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
    if own_login {
        // Nothing names it any more. Should this fail, the sweep takes it.
        let _ = ddl::drop_role(&login).run(connection).await;
    }
    Ok(())
}

/// Whether one of our own, retiring, still carries the name.
async fn in_our_way(connection: &mut PgConnection, published: &DatabaseName) -> Result<bool, StepError> {
    sql(sqlx::query_scalar("select exists (select from templates where name = $1 and state <> 'building')")
        .bind(published.as_str())
        .fetch_one(connection)
        .await)
}

/// Work inside the build's database: what the builder made under its own name goes to the owner, then VACUUM. Returns the
/// number of relations, for the lock table's warning.
async fn tidy(world: &PgWorld, build: &Build, login: &RoleName) -> Result<i64, StepError> {
    let facts = &world.connections.facts;
    let application = format!("{}{}", crate::connect::DDL_APPLICATION, world.connections.instance);
    let mut inside = sql(world.connections.address.connect(build.name.as_str(), &application).await)?;
    if facts.rights != Rights::DatabasesOnly {
        sql(ddl::reassign_owned(login, &build.owner).run(&mut inside).await)?;
        let public: bool =
            sql(sqlx::query_scalar("select to_regnamespace('public') is not null").fetch_one(&mut inside).await)?;
        if public && (facts.rights == Rights::Superuser || facts.major >= 15) {
            sql(ddl::give_public_schema(&build.owner).run(&mut inside).await)?;
        }
    }
    make_small(&mut inside).await?;
    let relations: i64 = sql(sqlx::query_scalar(
        "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')",
    )
    .fetch_one(&mut inside)
    .await)?;
    sql(inside.close().await)?;
    // VACUUM removed the file with which a session begins (`pg_internal.init`), and the next session writes it. A copy by files
    // takes it along, so that no first session of a clone has to.
    let first = sql(world.connections.address.connect(build.name.as_str(), &application).await)?;
    sql(first.close().await)?;
    Ok(relations)
}

/// Relations up to this size are written anew at the seal. What a larger one costs to copy is its contents.
const COMPACTED_BYTES: i64 = 16 << 20;

/// Freezes everything, and makes the template cheap to copy. That costs by the file more than by the byte, and VACUUM leaves up to
/// two further files beside each table (free space, visibility), as `initdb` did beside the catalogs: without them, and without the
/// gaps that migrations leave, 50 tables are 580 files in place of 755, and a copy and its drop take a fifth less.
async fn make_small(inside: &mut PgConnection) -> Result<(), StepError> {
    let relations: Vec<(String, String, bool)> = sql(sqlx::query_as(
        "select n.nspname::text, c.relname::text, pg_total_relation_size(c.oid) <= $1
         from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_am a on a.oid = c.relam
         where c.relkind in ('r', 'm') and not c.relisshared and c.relpersistence <> 't' and a.amname = 'heap'
         order by c.oid",
    )
    .bind(COMPACTED_BYTES)
    .fetch_all(&mut *inside)
    .await)?;
    let (small, large): (Vec<_>, Vec<_>) = relations.into_iter().partition(|(.., small)| *small);
    let named = |relations: Vec<(String, String, bool)>| -> Vec<(String, String)> {
        relations.into_iter().map(|(schema, name, _)| (schema, name)).collect()
    };
    sql(ddl::analyze().run(inside).await)?;
    sql(ddl::freeze(&named(large)).run(inside).await)?;
    // Some extension may object to its tables being written anew; the template is as good without.
    if ddl::compact(&named(small)).run(inside).await.is_err() {
        sql(ddl::vacuum().run(inside).await)?;
    }
    Ok(())
}

/// `alter database … set`, and what the builder or the owner set for themselves in this database: a clone's login is neither,
/// so it gets these as settings of the database; they come last, because they win over the database's own.
async fn settings(
    connection: &mut PgConnection,
    oid: i64,
    build: &Build,
    login: &RoleName,
) -> Result<Vec<String>, StepError> {
    sql(sqlx::query_scalar(
        "select unnest(s.setconfig) from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole
         where s.setdatabase::int8 = $1 and (s.setrole = 0 or r.rolname in ($2, $3)) order by s.setrole <> 0",
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
