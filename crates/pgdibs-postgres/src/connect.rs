//! Connecting: reads the server's URL, looks who answers, makes the catalog and brings it up to date.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::blockers;
use crate::catalog;
use crate::connection_pool::ConnectionPool;
use crate::connections::CATALOG_CONNECTIONS;
use crate::facts::ServerFacts;
use crate::failpoint::{Point, reach};
use crate::sqlstate;

pub use crate::address::{CATALOG, ConnectError, ServerAddress};
pub use crate::connections::{Connections, DDL_APPLICATION, DDL_CONNECTIONS, OWN_CONNECTIONS};

/// For the log: sqlx reports slow acquires and notices by itself, without the context that our own lines have.
pub const LOG_FILTER: &str = "sqlx=error";

/// Connects, checks who answers, makes the catalog if there is none, and applies our migrations. Meanwhile blockers are ended: a tenant
/// of an earlier daemon may keep every new session out of the catalog.
///
/// # Errors
/// [`ConnectError::NotUp`] when another try may help.
pub async fn open(address: ServerAddress, instance: i32) -> Result<Connections, ConnectError> {
    tokio::select! {
        opened = open_catalog(address.clone(), instance) => opened,
        never = blockers::end_at_start(&address) => match never {},
    }
}

async fn open_catalog(address: ServerAddress, instance: i32) -> Result<Connections, ConnectError> {
    let database = address.options.get_database().unwrap_or("postgres").to_owned();
    refuse_transaction_pooling(&address, &database).await?;
    let mut connection = address.connect(&database, "pgdibs").await?;
    refuse_protected(&mut connection).await?;
    let facts = ServerFacts::ask(&mut connection).await.map_err(|error| match error {
        sqlx::Error::Configuration(sentence) => ConnectError::Unusable(sentence.to_string()),
        other => other.into(),
    })?;
    if facts.major < 14 {
        return Err(ConnectError::Unusable(format!(
            "the server is Postgres {}; pgdibs needs 14 or later",
            facts.version
        )));
    }
    let in_use = in_use_by_others(&mut connection).await?;
    connection.close().await?;
    reach(Point::StartConnected).await;
    prepare(&address).await?;
    Ok(Connections {
        in_use_by_others: in_use,
        catalog: ConnectionPool::new({
            let address = address.clone();
            move || address.pool("pgdibs", CATALOG_CONNECTIONS, CATALOG_CONNECTIONS)
        }),
        ddl: ConnectionPool::new({
            let address = address.clone();
            move || address.pool(&format!("{DDL_APPLICATION}{instance}"), DDL_CONNECTIONS, 0)
        }),
        address,
        facts,
        instance,
    })
}

/// Makes the catalog if there is none, and applies our migrations. Also for a server that came back empty.
///
/// # Errors
/// [`ConnectError::NotUp`] when another try may help.
pub async fn prepare(address: &ServerAddress) -> Result<(), ConnectError> {
    let database = address.options.get_database().unwrap_or("postgres").to_owned();
    let mut connection = address.connect(&database, "pgdibs").await?;
    catalog::make(&mut connection).await?;
    reach(Point::StartCatalogMade).await;
    connection.close().await?;
    catalog::migrate(address).await?;
    reach(Point::StartMigrated).await;
    Ok(())
}

/// Databases that are not ours and in which somebody works.
async fn in_use_by_others(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select distinct d.datname::text from pg_stat_activity a join pg_database d on d.oid = a.datid
         left join pg_roles o on o.oid = d.datdba
         where a.usesysid is not null and not starts_with(a.application_name, 'pgdibs') and d.datname <> $1
           and o.rolname is distinct from 'pgdibs_owner' and o.rolname !~ '^pgdibs_l_[0-9]+$' order by 1",
    )
    .bind(CATALOG)
    .fetch_all(connection)
    .await
}

/// A server on which somebody has set `pgdibs.protect = on`: for the system, for our role, or for any database, since a mark on one
/// that we never connect to is meant for the server as well. Not on ours, nor on roles: a lease's login may set for itself what it likes.
async fn refuse_protected(connection: &mut PgConnection) -> Result<(), ConnectError> {
    let protected: Vec<String> = sqlx::query_scalar(
        "select 'the system or for role \"' || current_user || '\"'
         where lower(current_setting('pgdibs.protect', true)) in ('on', 'true', 'yes', '1')
         union all
         select 'database \"' || d.datname || '\"' from pg_db_role_setting s cross join unnest(s.setconfig) setting
         join pg_database d on d.oid = s.setdatabase left join pg_roles o on o.oid = d.datdba
         where s.setrole = 0 and o.rolname is distinct from 'pgdibs_owner' and o.rolname !~ '^pgdibs_l_[0-9]+$'
           and lower(setting) in ('pgdibs.protect=on', 'pgdibs.protect=true', 'pgdibs.protect=yes', 'pgdibs.protect=1')",
    )
    .fetch_all(connection)
    .await?;
    if protected.is_empty() {
        return Ok(());
    }
    Err(ConnectError::Unusable(format!(
        "this server is protected: pgdibs.protect = on is set for {}. pgdibs makes and drops databases, so it stays away; give it another server, or take the mark away (alter database … reset pgdibs.protect, alter role … reset pgdibs.protect, or a line in postgresql.conf)",
        protected.join(" and for ")
    )))
}

/// Session locks and LISTEN do not work behind a pooler that hands a server connection to each transaction.
///
/// Two client connections that see the same backend, or one that sees two, are behind such a pooler. Parameters that poolers
/// refuse at start-up are left out here, so that the sentence below is what the user sees.
async fn refuse_transaction_pooling(address: &ServerAddress, database: &str) -> Result<(), ConnectError> {
    let options = address.options.clone().database(database).application_name("pgdibs").extra_float_digits(None);
    let connect = async || -> Result<PgConnection, ConnectError> {
        tokio::time::timeout(Duration::from_secs(10), PgConnection::connect_with(&options))
            .await
            .map_err(|_| ConnectError::NotUp("no answer within 10 s".to_owned()))?
            .map_err(Into::into)
    };
    let (mut one, mut two) = (connect().await?, connect().await?);
    let pooled = async {
        let first = backend(&mut one, "select pg_catalog.pg_backend_pid()").await?;
        // An open transaction keeps the second client's server connection; the first one's next statement has to go elsewhere.
        let second = backend(&mut two, "begin; select pg_catalog.pg_backend_pid()").await?;
        let again = backend(&mut one, "select pg_catalog.pg_backend_pid()").await?;
        Ok::<_, sqlx::Error>(first == second || first != again)
    };
    let pooled = tokio::time::timeout(Duration::from_secs(10), pooled).await;
    // The pooler may be confused by now; nothing on these connections is worth a farewell. (Over TLS, `close_hard` would wait for
    // one all the same, for ever.)
    drop((one, two));
    match pooled {
        Ok(Ok(false)) => Ok(()),
        // PgBouncer in statement mode refuses our transaction as a breach of the protocol; a server does not.
        Ok(Err(error)) if sqlstate::code(&error).as_deref() != Some("08P01") => Err(error.into()),
        Ok(Ok(true) | Err(_)) | Err(_) => Err(ConnectError::Unusable(
            "PGDIBS_SERVER_URL leads to a pooler in transaction mode (PgBouncer?): two sessions shared one backend. pgdibs holds session locks, so give it the server's own address, or a pooler in session mode".to_owned(),
        )),
    }
}

async fn backend(connection: &mut PgConnection, sql: &'static str) -> Result<i32, sqlx::Error> {
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await?;
    rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}
