//! The server's address: read from a URL, and how sessions on it are opened.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::ddl;
use crate::sqlstate::{self, Meaning};

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
        enter(&mut connection).await?;
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
            .after_connect(|connection, _| Box::pin(async move { enter(connection).await }))
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

/// A connection that was used this short a time ago is lent without a test, which is one round trip less for each request. Longer
/// ago, the server may have crashed and be back; it takes longer than this to come back.
pub(crate) const TRUSTED: Duration = Duration::from_millis(50);

/// An idle connection answers within this time, or is dead.
const TEST: Duration = Duration::from_secs(2);

pub(crate) const NOT_OURS: &str = "the server has a database \"pgdibs\" that is not ours: it belongs neither to the daemon's role nor to a superuser. Drop it with: dropdb pgdibs. If another role of a daemon made it, hand it over with: alter database pgdibs owner to the daemon's role";

/// The first statements of a session in the catalog: nothing in it is looked up before it is known to be ours. Also later than at the
/// start, because the catalog may be renamed and another role take its name.
async fn enter(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    ddl::safe_settings().run(connection).await?;
    let is_ours: bool = sqlx::query_scalar(
        "select o.rolname = current_user or o.rolsuper from pg_database d join pg_roles o on o.oid = d.datdba
         where d.datname = current_database()",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !is_ours {
        return Err(sqlx::Error::Protocol(NOT_OURS.to_owned()));
    }
    ddl::see_the_catalog().run(connection).await
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
