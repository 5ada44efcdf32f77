//! Connecting: reads the server's URL, looks who answers, makes the catalog and brings it up to date.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Postgres, Row as _, Transaction};

use crate::blockers;
use crate::catalog;
use crate::connection_pool::ConnectionPool;
use crate::failpoint::{Point, reach};
use crate::rights::ServerFacts;
use crate::sqlstate::{self, Meaning};

/// For the log: sqlx reports slow acquires and notices by itself, without the context that our own lines have.
pub const LOG_FILTER: &str = "sqlx=error";

/// The database that holds the catalog.
pub const CATALOG: &str = "pgdibs";

/// Why the server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It may come up yet: try again.
    #[error("the Postgres server does not answer: {0}")]
    NotUp(String),
    /// It answers and refuses our login: try again, since the role may be about to be made, but say it.
    #[error("the server refuses the login: {0}; check user and password of PGDIBS_SERVER_URL")]
    Refused(String),
    /// Trying again will not help; the sentence says what will.
    #[error("{0}")]
    Unusable(String),
}

impl From<sqlx::Error> for ConnectError {
    fn from(error: sqlx::Error) -> Self {
        match sqlstate::meaning(&error) {
            Meaning::Unavailable | Meaning::Contended => Self::NotUp(sqlstate::sentence(&error)),
            Meaning::Refused => Self::Refused(sqlstate::sentence(&error)),
            _ => Self::Unusable(sqlstate::sentence(&error)),
        }
    }
}

/// How to reach the server. Holds the superuser's password, so it has no `Debug`.
#[derive(Clone)]
pub struct ServerAddress {
    pub(crate) options: PgConnectOptions,
    tls: String,
    url: SecretString,
}

/// The connections of one daemon to one server.
pub struct Connections {
    /// For requests: a few statements each.
    pub catalog: ConnectionPool,
    /// For DDL: one statement may take seconds. Their `application_name` names this instance, so that a successor can end them.
    pub ddl: ConnectionPool,
    /// How to open a connection of its own kind.
    pub address: ServerAddress,
    /// What the server is.
    pub facts: ServerFacts,
    /// This daemon's number, unique among the daemons of the server.
    pub instance: i32,
    /// Databases of others that had sessions when we came.
    pub in_use_by_others: Vec<String>,
}

impl Connections {
    /// Begins a transaction on a shared connection. In a task of its own, since a caller may hang up at any moment: sqlx counts a
    /// transaction only when the answer to `begin` is there, rolls back only what it has counted, and would lend the connection
    /// to the next caller with somebody's transaction open.
    pub(crate) async fn begin(&self, statement: &'static str) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let (pool, _) = self.catalog.pool();
        let begun = tokio::spawn(async move { pool.begin_with(statement).await });
        begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

impl ServerAddress {
    /// Reads a URL: `postgresql://user:password@host:port/database?sslmode=…`.
    ///
    /// # Errors
    /// When it is none; the sentence never shows the password.
    pub fn parse(url: &SecretString) -> Result<Self, ConnectError> {
        let text = url.expose_secret();
        if !text.starts_with("postgresql://") && !text.starts_with("postgres://") {
            return Err(ConnectError::Unusable(
                "PGDIBS_SERVER_URL: must look like postgresql://user:password@host:5432/postgres (percent-encode special characters of the password)"
                    .to_owned(),
            ));
        }
        let options = PgConnectOptions::from_str(text).map_err(|_| {
            // The parser's own message may quote the URL, password included.
            ConnectError::Unusable(
                "PGDIBS_SERVER_URL: cannot be read; it must look like postgresql://user:password@host:5432/postgres, with special characters of the password percent-encoded (@ is %40, : is %3A, / is %2F)"
                    .to_owned(),
            )
        })?;
        // What a client of the same server needs as well.
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let tls: Vec<&str> = query.split('&').filter(|pair| pair.starts_with("ssl")).collect();
        Ok(Self { options: options.disable_statement_logging(), tls: tls.join("&"), url: url.clone() })
    }

    /// The same server, reached by the daemon itself through the Unix socket in this directory: a lease is some forty statements, and
    /// each is cheaper there by about 10 µs of processor than through TCP on loopback.
    #[must_use]
    pub fn through_socket(mut self, directory: &Path) -> Self {
        self.options = self.options.socket(directory);
        self
    }

    /// Host (an IPv6 address without brackets) and port, as others on this machine reach the server.
    #[must_use]
    pub fn host_and_port(&self) -> (String, u16) {
        (self.host().to_owned(), self.options.get_port())
    }

    /// sqlx keeps the brackets in which an IPv6 address stands in a URL.
    fn host(&self) -> &str {
        self.options.get_host().trim_start_matches('[').trim_end_matches(']')
    }

    /// What a client of the same server needs to speak TLS as the daemon does, as the query of a URL: `sslmode=require`. The daemon's
    /// own certificate and its key, with which it logs in, are not among it.
    #[must_use]
    pub fn tls_for_clients(&self) -> String {
        let own = ["sslcert", "sslkey", "sslpassword"];
        let shared =
            self.tls.split('&').filter(|pair| pair.split_once('=').is_some_and(|(name, _)| !own.contains(&name)));
        shared.collect::<Vec<_>>().join("&")
    }

    /// How libpq's programs reach a database of this server with the daemon's own login: variables for their environment, since
    /// arguments can be read by everybody on the machine. `PGDATABASE` cannot hold a URL.
    #[must_use]
    pub fn libpq_variables(&self, database: &str) -> Vec<(&'static str, SecretString)> {
        let url = self.url.expose_secret();
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let parameter = |wanted: &str| {
            let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == wanted);
            pair.map(|(_, value)| decoded(value))
        };
        let socket = self.options.get_socket().map(|path| path.display().to_string());
        let mut variables = vec![
            ("PGHOST", socket.unwrap_or_else(|| self.host().to_owned())),
            ("PGPORT", self.options.get_port().to_string()),
            ("PGUSER", self.options.get_username().to_owned()),
            ("PGDATABASE", database.to_owned()),
        ];
        let given = [
            ("PGPASSWORD", password_in(url).or_else(|| parameter("password"))),
            ("PGSSLMODE", parameter("sslmode")),
            ("PGSSLROOTCERT", parameter("sslrootcert")),
            ("PGSSLCERT", parameter("sslcert")),
            ("PGSSLKEY", parameter("sslkey")),
        ];
        variables.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        variables.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect()
    }

    /// A URL for another login and database of the same server, TLS parameters included.
    #[must_use]
    pub fn url_for(&self, user: &str, password: &SecretString, database: &str) -> SecretString {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let (host, port) = self.host_and_port();
        // A host may come from a parameter, and then be anything.
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            percent_encoding::utf8_percent_encode(&host, BEYOND_A_HOST).to_string()
        };
        let query = if self.tls.is_empty() { String::new() } else { format!("?{}", self.tls) };
        SecretString::from(format!(
            "postgresql://{}:{}@{host}:{port}/{}{query}",
            encode(user),
            encode(password.expose_secret()),
            encode(database)
        ))
    }

    /// A connection to one database under one name. The settings we rely on are ours, whatever the server's are; in every database but
    /// the catalog, nothing that another role created is looked up (see [`inside`](crate::inside)).
    ///
    /// # Errors
    /// Whatever Postgres says.
    pub async fn connect(&self, database: &str, application_name: &str) -> Result<PgConnection, sqlx::Error> {
        if database != CATALOG {
            return self.connect_inside(database, application_name).await;
        }
        let options = self.options.clone().database(database).application_name(application_name);
        let mut connection = opened(&options).await?;
        catalog::enter(&mut connection).await?;
        Ok(connection)
    }

    /// Connections to the catalog, of which so many are kept open from the beginning, and the others opened when they are needed.
    ///
    /// To open one takes long in a busy daemon: sqlx computes the four thousand rounds of SCRAM in pieces, and after each of its eight
    /// hundred pauses waits for its turn among all requests. A hundred sessions that begin at once would find that out.
    pub(crate) fn pool(&self, application_name: &str, size: u32, kept: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(size)
            .min_connections(kept)
            // A hundred sessions that begin at once are served by a few connections, one after the other: that takes a while, and is no fault.
            .acquire_timeout(Duration::from_secs(8))
            .idle_timeout((kept < size).then_some(Duration::from_secs(120)))
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for > TRUSTED {
                        // A dead one is closed, and the next one tried; each that is tried is one less.
                        let tested = tokio::time::timeout(TEST, connection.ping()).await;
                        tested.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
            .after_connect(|connection, _| Box::pin(async move { catalog::enter(connection).await }))
            .connect_lazy_with(self.options.clone().database(CATALOG).application_name(application_name))
    }
}

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(10);

/// Connects within that time.
pub(crate) async fn opened(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let connecting = PgConnection::connect_with(options);
    tokio::time::timeout(CONNECTING, connecting).await.map_err(|_| not_let_in(options.get_database()))?
}

/// A server that is up lets a session wait without a word while another one locks the session's database.
fn not_let_in(database: Option<&str>) -> sqlx::Error {
    let sentence = format!(
        "it let no session into database \"{}\" within {} s. If it lets you into another one, a session may lock this database; to see which: select pid, pg_blocking_pids(pid) from pg_locks where locktype = 'object' and not granted",
        database.unwrap_or_default(),
        CONNECTING.as_secs()
    );
    std::io::Error::new(std::io::ErrorKind::TimedOut, sentence).into()
}

/// What no host name has in it. sqlx takes a host as it stands, so what need not be encoded is not.
const BEYOND_A_HOST: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The password before the last `@` of a URL's authority.
fn password_in(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| decoded(password))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Connections that requests share.
const CATALOG_CONNECTIONS: u32 = 8;
/// Connections for clones, drops, builds and fences: as many as the reconciler runs at once of the first two, and two for the others.
pub const DDL_CONNECTIONS: u32 = 18;
/// Connections that the daemon itself may hold at once: those two kinds, the reconciler's, the listener's, the one that looks for
/// blockers, and one into a build.
pub const OWN_CONNECTIONS: u32 = CATALOG_CONNECTIONS + DDL_CONNECTIONS + 4;

/// A connection that was used this short a time ago is lent without a test, which is one round trip less for each request. Longer
/// ago, the server may have crashed and be back; it takes longer than this to come back.
pub(crate) const TRUSTED: Duration = Duration::from_millis(50);

/// An idle connection answers within this time, or is dead.
const TEST: Duration = Duration::from_secs(2);

/// The prefix of `application_name` on connections that run DDL. A dead daemon's DDL goes on; its successor finds it by this.
pub const DDL_APPLICATION: &str = "pgdibs-ddl/";

/// Application name of the connection that holds leadership.
pub(crate) const RECONCILER: &str = "pgdibs-reconciler";

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
    let transitions: Vec<String> = sqlx::query_scalar(
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
    if transitions.is_empty() {
        return Ok(());
    }
    Err(ConnectError::Unusable(format!(
        "this server is protected: pgdibs.protect = on is set for {}. pgdibs makes and drops databases, so it stays away; give it another server, or take the mark away (alter database … reset pgdibs.protect, alter role … reset pgdibs.protect, or a line in postgresql.conf)",
        transitions.join(" and for ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_of_tls_and_not_of_the_daemons_own_certificate() {
        for (query, told) in [
            ("", ""),
            ("?application_name=x", ""),
            ("?sslmode=require", "sslmode=require"),
            (
                "?sslmode=verify-full&sslrootcert=%2Fca.pem&sslcert=%2Fown.pem&sslkey=%2Fown.key",
                "sslmode=verify-full&sslrootcert=%2Fca.pem",
            ),
        ] {
            let url = SecretString::from(format!("postgresql://u:p@h/d{query}"));
            assert_eq!(ServerAddress::parse(&url).unwrap().tls_for_clients(), told);
        }
    }

    #[test]
    fn the_daemons_own_way_through_a_socket_is_not_told_to_clients() {
        let url = SecretString::from("postgresql://u:p@127.0.0.1:5432/d".to_owned());
        let address = ServerAddress::parse(&url).unwrap().through_socket(Path::new("/somewhere/socket"));
        let own = address.libpq_variables("d");
        assert_eq!(own.iter().find(|(name, _)| *name == "PGHOST").unwrap().1.expose_secret(), "/somewhere/socket");
        let theirs = address.url_for("u", &SecretString::from("p".to_owned()), "d");
        assert_eq!(theirs.expose_secret(), "postgresql://u:p@127.0.0.1:5432/d");
    }
}
