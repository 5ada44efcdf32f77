//! Connects to the server, checks it, and creates and migrates the catalog.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::address;
use crate::blockers;
use crate::catalog;
use crate::connection_pool::ConnectionPool;
use crate::connections::{BACKGROUND_CONNECTIONS, CATALOG_CONNECTIONS};
use crate::facts::ServerFacts;
use crate::priority::Priority;
use crate::sqlstate;
use pgdibs_failpoint::{Failpoint, reach};

pub use crate::address::{CATALOG, ConnectError, ServerAddress};
pub use crate::connections::{Connections, DDL_APPLICATION, DDL_CONNECTIONS, OWN_CONNECTIONS};

/// For the log: sqlx logs slow acquires and notices by itself, without the context that pgdibs's own lines have.
pub const LOG_FILTER: &str = "sqlx=error";

/// Connects, checks the server, and creates and migrates the catalog. It ends blockers at the same time: a tenant of an earlier daemon may
/// keep every new session out of the catalog.
pub async fn open(address: ServerAddress, instance: i32) -> Result<Connections, ConnectError> {
    tokio::select! {
        connected = connect(address.clone(), instance) => connected,
        never = blockers::end_at_start(&address) => match never {},
    }
}

async fn connect(address: ServerAddress, instance: i32) -> Result<Connections, ConnectError> {
    let database = address.options.get_database().unwrap_or("postgres").to_owned();
    refuse_transaction_pooling(&address, &database).await?;
    let mut connection = address.connect(&database, "pgdibs").await?;
    refuse_protected(&mut connection).await?;
    let facts = ServerFacts::read(&mut connection).await.map_err(|error| match error {
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
    reach(Failpoint::StartConnected).await;
    prepare(&address).await?;
    Ok(Connections {
        in_use_by_others: in_use,
        catalog: ConnectionPool::new({
            let address = address.clone();
            move || address.pool("pgdibs", Priority::Normal, CATALOG_CONNECTIONS, CATALOG_CONNECTIONS)
        }),
        ddl: ConnectionPool::new({
            let address = address.clone();
            move || address.pool(&format!("{DDL_APPLICATION}{instance}"), Priority::Normal, DDL_CONNECTIONS, 0)
        }),
        background: ConnectionPool::new({
            let address = address.clone();
            move || address.pool(&format!("{DDL_APPLICATION}{instance}"), Priority::Low, BACKGROUND_CONNECTIONS, 0)
        }),
        address,
        facts,
        instance,
    })
}

/// Creates the catalog if there is none, and migrates it. Also for a server that came back empty.
pub async fn prepare(address: &ServerAddress) -> Result<(), ConnectError> {
    let database = address.options.get_database().unwrap_or("postgres").to_owned();
    let mut connection = address.connect(&database, "pgdibs").await?;
    catalog::make(&mut connection).await?;
    reach(Failpoint::StartCatalogMade).await;
    connection.close().await?;
    catalog::migrate(address).await?;
    reach(Failpoint::StartMigrated).await;
    Ok(())
}

/// Foreign databases with sessions.
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

/// Refuses a server with `pgdibs.protect = on`: for the system, for the daemon's role, or for any foreign database, since a setting on a
/// database that pgdibs never uses is meant for the server as well. Not for other roles: the login of a lease may set it for itself.
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

/// Session locks and LISTEN do not work behind a pooler in transaction mode.
///
/// Two client connections on the same backend, or one on two, are behind such a pooler. Without the parameters that poolers refuse at
/// start-up, so that the user gets the sentence below.
pub(crate) async fn refuse_transaction_pooling(address: &ServerAddress, database: &str) -> Result<(), ConnectError> {
    let options = address.options.clone().database(database).application_name("pgdibs").extra_float_digits(None);
    let (mut one, mut two) = (address::open(&options).await?, address::open(&options).await?);
    let pooled = async {
        let first = backend(&mut one, "select pg_catalog.pg_backend_pid()").await?;
        // An open transaction keeps the second client's server connection, so the first client's next statement gets another one.
        let second = backend(&mut two, "begin; select pg_catalog.pg_backend_pid()").await?;
        let again = backend(&mut one, "select pg_catalog.pg_backend_pid()").await?;
        Ok::<_, sqlx::Error>(first == second || first != again)
    };
    let pooled = tokio::time::timeout(Duration::from_secs(10), pooled).await;
    // Without a farewell, which the pooler may not answer. (Over TLS, `close_hard` would wait for the answer for ever.)
    drop((one, two));
    match pooled {
        Ok(Ok(false)) => Ok(()),
        // PgBouncer in statement mode refuses a transaction as a protocol violation; a server does not.
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
