//! The purge: everything of ours off a server. Listed first; the asking is the command line's.

use pgdibs_core::name::{DatabaseName, PoolName, RoleName, TestsOwnDatabase};
use secrecy::SecretString;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::address::{CATALOG, ConnectError, ServerAddress};
use crate::ddl::{self, Ddl};
use crate::shared_sql::living_daemons;
use crate::shared_sql::made_by_tests;
use crate::steps::sessions::end_sessions;

/// What a purge would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Databases with our row, our owner and our name.
    pub databases: Vec<String>,
    /// Logins and roles that we made.
    pub roles: Vec<String>,
    /// Whether the catalog is there.
    pub catalog: bool,
    /// Daemons that serve this server at present.
    pub daemons: usize,
    /// Live leases, by holder.
    pub leases: Vec<String>,
}

struct Found {
    inventory: Inventory,
    databases: Vec<(DatabaseName, i64)>,
    /// Made by the logins of leases.
    tests_own: Vec<(TestsOwnDatabase, i64)>,
    roles: Vec<RoleName>,
}

async fn take_snapshot(address: &ServerAddress) -> Result<Found, ConnectError> {
    let mut found =
        Found { inventory: Inventory::default(), databases: Vec::new(), tests_own: Vec::new(), roles: Vec::new() };
    let mut outside = address.connect("postgres", "pgdibs-purge").await?;
    found.inventory.catalog = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(CATALOG)
        .fetch_one(&mut outside)
        .await?;
    if !found.inventory.catalog {
        return Ok(found);
    }
    let mut inside = address.connect(CATALOG, "pgdibs-purge").await?;
    let rows = sqlx::query(
        "select ours.pool, ours.name, p.oid::int8 as oid from (
             select pool, name, oid from databases union all select pool, name, oid from templates) ours
         join pg_database p on p.datname = ours.name and (p.oid::int8 = ours.oid or ours.oid is null)
         join pg_roles r on r.oid = p.datdba and r.rolname in ('pgdibs_owner', current_user)
         order by 2",
    )
    .fetch_all(&mut inside)
    .await?;
    for row in rows {
        let (pool, name): (String, String) = (row.try_get("pool")?, row.try_get("name")?);
        if let Some(name) = PoolName::parse(&pool).ok().and_then(|pool| DatabaseName::recognise(&pool, &name)) {
            found.inventory.databases.push(name.to_string());
            found.databases.push((name, row.try_get("oid")?));
        }
    }
    let made: Vec<(String, String, i64)> = sqlx::query_as(concat!(
        "select o.rolname::text, d.datname::text, d.oid::int8 from pg_database d join pg_roles o on o.oid = d.datdba where ",
        made_by_tests!(),
        " order by 2"
    ))
    .fetch_all(&mut inside)
    .await?;
    for (login, name, oid) in made {
        let own = TestsOwnDatabase::of_login(&login, &name).unwrap_or_else(|| TestsOwnDatabase::of_pool_owner(&name));
        found.inventory.databases.push(name);
        found.tests_own.push((own, oid));
    }
    let roles: Vec<String> = sqlx::query_scalar(
        "select rolname::text from pg_roles
         where rolname ~ '^pgdibs_l_[0-9]+$' or rolname = 'pgdibs_owner' or rolname in (select name from roles)
         order by rolname !~ '^pgdibs_l_', 1",
    )
    .fetch_all(&mut inside)
    .await?;
    found.roles = roles.iter().filter_map(|name| RoleName::parse("role", name).ok()).collect();
    found.inventory.roles = roles;
    let daemons: i64 =
        sqlx::query_scalar(concat!("select count(distinct daemon) from (", living_daemons!(), ") living (daemon)"))
            .fetch_one(&mut inside)
            .await?;
    found.inventory.daemons = usize::try_from(daemons).unwrap_or(0);
    found.inventory.leases = sqlx::query_scalar(
        "select database_name || ' by ' || coalesce(nullif(holder, ''), worker, 'somebody') from leases where state = 'live' order by 1",
    )
    .fetch_all(&mut inside)
    .await?;
    Ok(found)
}

/// Lists what a purge would remove.
///
/// # Errors
/// When the server cannot be reached or the catalog cannot be read.
pub async fn inventory(url: &SecretString) -> Result<Inventory, ConnectError> {
    take_snapshot(&ServerAddress::parse(url)?).await.map(|found| found.inventory)
}

/// Removes databases, logins, roles and the catalog; returns what was removed, one line each.
///
/// # Errors
/// At the first thing that cannot be removed; what was removed until then stays removed, and a second purge goes on.
pub async fn purge(url: &SecretString) -> Result<Vec<String>, ConnectError> {
    let address = ServerAddress::parse(url)?;
    let found = take_snapshot(&address).await?;
    let mut done = Vec::new();
    let mut connection = address.connect("postgres", "pgdibs-purge").await?;
    for (name, oid) in &found.databases {
        let close = ddl::is_template(name, false).then(ddl::allow_connections(name, false));
        remove_database(&mut connection, *oid, close, ddl::drop_database(name)).await?;
        done.push(format!("dropped database {name}"));
    }
    for (name, oid) in &found.tests_own {
        remove_database(&mut connection, *oid, ddl::close_tests_own(name), ddl::drop_database(name)).await?;
        done.push(format!("dropped database {}, which tests made", name.as_str()));
    }
    // Roles before the catalog: it alone knows which of them are ours, so a purge that fails here can go on later.
    for role in &found.roles {
        ddl::drop_role(role).run(&mut connection).await.map_err(|error| {
            ConnectError::Unusable(format!(
                "role \"{role}\" cannot be dropped: {}; something that pgdibs did not make still refers to it",
                crate::sqlstate::sentence(&error)
            ))
        })?;
        done.push(format!("dropped role {role}"));
    }
    if found.inventory.catalog {
        let oid: i64 = sqlx::query_scalar("select oid::int8 from pg_database where datname = $1")
            .bind(CATALOG)
            .fetch_one(&mut connection)
            .await?;
        let stuck = end_sessions(&mut connection, &[oid]).await.map_err(|e| ConnectError::NotUp(e.to_string()))?;
        if !stuck.is_empty() {
            return Err(ConnectError::NotUp("a session on the catalog does not end".to_owned()));
        }
        ddl::drop_catalog().run(&mut connection).await?;
        done.push("dropped the catalog, database pgdibs".to_owned());
    }
    Ok(done)
}

async fn remove_database(connection: &mut PgConnection, oid: i64, close: Ddl, drop: Ddl) -> Result<(), ConnectError> {
    let invalid: bool = sqlx::query_scalar("select datconnlimit = -2 from pg_database where oid::int8 = $1")
        .bind(oid)
        .fetch_one(&mut *connection)
        .await?;
    if !invalid {
        // An open transaction of theirs may hold the row that closing has to change.
        end_sessions(connection, &[oid]).await.map_err(|e| ConnectError::NotUp(e.to_string()))?;
        close.run(connection).await?;
        end_sessions(connection, &[oid]).await.map_err(|e| ConnectError::NotUp(e.to_string()))?;
    }
    drop.run(connection).await?;
    Ok(())
}
