//! The purge: removes everything that pgdibs created on a server. The command line asks for a confirmation of the inventory first.

use pgdibs_core::name::{DatabaseName, RoleName};
use secrecy::SecretString;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::address::{CATALOG, ConnectError, ServerAddress};
use crate::ddl::{self, Ddl};
use crate::rows::Columns as _;
use crate::sqlstate;
use crate::steps::sessions::end_sessions;
use crate::steps::tenants::Made;

/// What a purge would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Databases with a row, an owner and a name of pgdibs, and those that tests created.
    pub databases: Vec<String>,
    /// Logins and roles that pgdibs created.
    pub roles: Vec<String>,
    /// Whether the catalog exists.
    pub catalog: bool,
    /// Daemons that serve this server at present.
    pub daemons: usize,
    /// Live leases, by holder.
    pub leases: Vec<String>,
    /// The catalog is one of another version of pgdibs, so its databases and roles are those that `pg_database` and `pg_roles` show.
    pub other_version: bool,
}

#[derive(Default)]
struct Found {
    inventory: Inventory,
    databases: Vec<(DatabaseName, i64)>,
    made_by_tests: Vec<Made>,
}

async fn find(address: &ServerAddress) -> Result<Found, ConnectError> {
    let mut found = Found::default();
    let mut outside = address.connect("postgres", "pgdibs-purge").await?;
    found.inventory.catalog = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(CATALOG)
        .fetch_one(&mut outside)
        .await?;
    if !found.inventory.catalog {
        return Ok(found);
    }
    let mut inside = address.connect(CATALOG, "pgdibs-purge").await?;
    match read_catalog(&mut inside, &mut found).await {
        Err(error) if sqlstate::is_other_schema(&error) => {
            found = Found {
                inventory: Inventory { catalog: true, other_version: true, ..Inventory::default() },
                ..Found::default()
            };
            read_server(&mut inside, &mut found).await?;
        }
        read => read?,
    }
    Ok(found)
}

async fn read_catalog(inside: &mut PgConnection, found: &mut Found) -> Result<(), sqlx::Error> {
    found.databases = sqlx::query(
        "select own.pool, own.name, s.oid::int8 as oid
         from (select pool, name, oid from databases union all select pool, name, oid from templates) own
         join server_databases s on s.name = own.name and (s.oid::int8 = own.oid or own.oid is null)
         where s.ours or s.owner = current_user
            -- A superuser's lease gave it away.
            or s.oid::int8 = own.oid and (s.owner ~ '^pgdibs_l_[0-9]+$' or s.owner::text in (select name from roles)) order by 2",
    )
    .try_map(|row: PgRow| Ok((row.database("name")?, row.try_get("oid")?)))
    .fetch_all(&mut *inside)
    .await?;
    found.made_by_tests = sqlx::query(
        "select owner::text, name::text, oid::int8, invalid from server_databases where made_by_tests order by 2",
    )
    .try_map(|row| Made::read(&row))
    .fetch_all(&mut *inside)
    .await?;
    let made_by_tests = found.made_by_tests.iter().map(|made| made.database.as_str().to_owned());
    let databases = found.databases.iter().map(|(name, _)| name.to_string()).chain(made_by_tests);
    found.inventory.databases = databases.collect();
    found.inventory.roles = sqlx::query_scalar(
        "select rolname::text from pg_roles
         where rolname ~ '^pgdibs_l_[0-9]+$' or rolname = 'pgdibs_owner' or rolname in (select name from roles)
         order by rolname !~ '^pgdibs_l_', 1",
    )
    .fetch_all(&mut *inside)
    .await?;
    let daemons: i64 =
        sqlx::query_scalar("select count(distinct daemon) from living_daemons").fetch_one(&mut *inside).await?;
    found.inventory.daemons = usize::try_from(daemons).unwrap_or(0);
    found.inventory.leases = sqlx::query_scalar(
        "select database_name || ' by ' || coalesce(nullif(holder, ''), worker, 'an unnamed holder') from leases where state = 'live' order by 1",
    )
    .fetch_all(&mut *inside)
    .await?;
    Ok(())
}

/// What the server itself shows, where the catalog has other tables: databases by their owner, and logins by their name. Only table `roles`
/// knows the pools' owner roles, and every version so far has it; without it they stay.
async fn read_server(inside: &mut PgConnection, found: &mut Found) -> Result<(), sqlx::Error> {
    found.made_by_tests = sqlx::query(
        "select o.rolname::text as owner, d.datname::text as name, d.oid::int8 as oid, d.datconnlimit = -2 as invalid
         from pg_database d join pg_roles o on o.oid = d.datdba
         where o.rolname = 'pgdibs_owner' or o.rolname ~ '^pgdibs_l_[0-9]+$' order by 2",
    )
    .try_map(|row| Made::read(&row))
    .fetch_all(&mut *inside)
    .await?;
    found.inventory.databases = found.made_by_tests.iter().map(|made| made.database.as_str().to_owned()).collect();
    let owners: Vec<String> = match sqlx::query_scalar("select name from roles").fetch_all(&mut *inside).await {
        Err(error) if sqlstate::is_other_schema(&error) => Vec::new(),
        read => read?,
    };
    found.inventory.roles = sqlx::query_scalar(
        "select rolname::text from pg_roles
         where rolname ~ '^pgdibs_l_[0-9]+$' or rolname = 'pgdibs_owner' or rolname::text = any($1) order by rolname !~ '^pgdibs_l_', 1",
    )
    .bind(&owners)
    .fetch_all(&mut *inside)
    .await?;
    let daemons: i64 = sqlx::query_scalar(
        "select count(distinct pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    )
    .fetch_one(&mut *inside)
    .await?;
    // Sessions on the catalog are those of daemons, whatever locks their version takes.
    found.inventory.daemons = usize::from(daemons > 0);
    Ok(())
}

/// Lists what a purge would remove.
pub async fn inventory(url: &SecretString) -> Result<Inventory, ConnectError> {
    find(&ServerAddress::parse(url)?).await.map(|found| found.inventory)
}

/// Removes databases, logins, roles and the catalog; returns what it removed, one line each. It stops at the first failure, and a second
/// purge goes on from there.
pub async fn purge(url: &SecretString) -> Result<Vec<String>, ConnectError> {
    let address = ServerAddress::parse(url)?;
    let found = find(&address).await?;
    let mut done = Vec::new();
    let mut connection = address.connect("postgres", "pgdibs-purge").await?;
    for (name, oid) in &found.databases {
        let close = ddl::is_template(name, false).then(ddl::allow_connections(name, false));
        remove_database(&mut connection, *oid, close, ddl::drop_database(name)).await?;
        done.push(format!("dropped database {name}"));
    }
    for Made { database, oid, .. } in &found.made_by_tests {
        remove_database(&mut connection, *oid, ddl::close_tests_own(database), ddl::drop_database(database)).await?;
        let whose = if found.inventory.other_version { "" } else { ", which tests made" };
        done.push(format!("dropped database {}{whose}", database.as_str()));
    }
    // Roles before the catalog: it alone knows which of them pgdibs created, so a purge that fails here can go on later.
    for role in found.inventory.roles.iter().filter_map(|name| RoleName::parse("role", name).ok()) {
        ddl::drop_role(&role).run(&mut connection).await.map_err(|error| {
            ConnectError::Unusable(format!(
                "role \"{role}\" cannot be dropped: {}; something that pgdibs did not make still refers to it",
                sqlstate::sentence(&error)
            ))
        })?;
        done.push(format!("dropped role {role}"));
    }
    if found.inventory.catalog {
        let oid: i64 = sqlx::query_scalar("select oid::int8 from pg_database where datname = $1")
            .bind(CATALOG)
            .fetch_one(&mut connection)
            .await?;
        if !end_sessions(&mut connection, &[oid]).await?.is_empty() {
            return Err(ConnectError::NotUp("a session on the catalog does not end".to_owned()));
        }
        ddl::drop_catalog().run(&mut connection).await?;
        done.push("dropped the catalog, database pgdibs".to_owned());
    }
    Ok(done)
}

async fn remove_database(connection: &mut PgConnection, oid: i64, close: Ddl, drop: Ddl) -> Result<(), sqlx::Error> {
    let invalid: bool = sqlx::query_scalar("select datconnlimit = -2 from pg_database where oid::int8 = $1")
        .bind(oid)
        .fetch_one(&mut *connection)
        .await?;
    if !invalid {
        // An open transaction of a tenant may hold the row that closing changes.
        end_sessions(connection, &[oid]).await?;
        close.run(connection).await?;
        end_sessions(connection, &[oid]).await?;
    }
    drop.run(connection).await
}
