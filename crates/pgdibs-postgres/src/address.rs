//! The server's address: reads its URL, and opens sessions.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::ddl;
use crate::priority::{self, Priority};
use crate::sqlstate::{self, ErrorClass};

/// The database that holds the catalog.
pub const CATALOG: &str = "pgdibs";

/// Why the server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A retry may succeed.
    #[error("the Postgres server does not answer: {0}")]
    NotUp(String),
    /// It answers and refuses the login. A retry may succeed once the role is created.
    #[error("the server refuses the login: {0}; check user and password of PGDIBS_SERVER_URL")]
    Refused(String),
    /// A retry does not help; the sentence says what does.
    #[error("{0}")]
    Unusable(String),
}

impl From<sqlx::Error> for ConnectError {
    fn from(error: sqlx::Error) -> Self {
        match sqlstate::class(&error) {
            ErrorClass::Unavailable | ErrorClass::Contended => Self::NotUp(sqlstate::sentence(&error)),
            ErrorClass::Refused => Self::Refused(sqlstate::sentence(&error)),
            _ => Self::Unusable(sqlstate::sentence(&error)),
        }
    }
}

/// It has the superuser's password, so no `Debug`.
#[derive(Clone)]
pub struct ServerAddress {
    pub(crate) options: PgConnectOptions,
    /// The directory of the server's Unix socket, if the URL leads there.
    socket: Option<String>,
    tls: String,
    url: SecretString,
    /// Whether it is the embedded server, whose processes belong to the daemon's user.
    is_own: bool,
}

impl ServerAddress {
    /// Reads a URL: `postgresql://user:password@host:port/database?sslmode=…`. An error never shows the password.
    pub fn parse(url: &SecretString) -> Result<Self, ConnectError> {
        let text = url.expose_secret();
        if !text.starts_with("postgresql://") && !text.starts_with("postgres://") {
            return Err(ConnectError::Unusable(
                "PGDIBS_SERVER_URL: must look like postgresql://user:password@host:5432/postgres (percent-encode special characters of the password)"
                    .to_owned(),
            ));
        }
        // sqlx ignores what follows it, so a parameter there would be ignored as well, such as `sslmode`.
        if text.contains('#') {
            return Err(ConnectError::Unusable(
                "PGDIBS_SERVER_URL: has a #, which no part of the URL may have; in a password write it as %23"
                    .to_owned(),
            ));
        }
        let options = PgConnectOptions::from_str(&with_host(text)).map_err(|_| {
            // The parser's own message may quote the URL, password included.
            ConnectError::Unusable(
                "PGDIBS_SERVER_URL: cannot be read; it must look like postgresql://user:password@host:5432/postgres, with special characters of the password percent-encoded (@ is %40, : is %3A, / is %2F)"
                    .to_owned(),
            )
        })?;
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let tls: Vec<&str> = query.split('&').filter(|pair| pair.starts_with("ssl")).collect();
        // Without a host in the URL, sqlx takes PGHOST or a socket's usual directory as the host.
        let socket = options.get_socket().map(|path| path.display().to_string());
        let socket =
            socket.or_else(|| Some(options.get_host()).filter(|host| host.starts_with('/')).map(str::to_owned));
        Ok(Self {
            options: options.disable_statement_logging(),
            socket,
            tls: tls.join("&"),
            url: url.clone(),
            is_own: false,
        })
    }

    /// The embedded server, through the Unix socket in this directory, for the daemon itself: a lease is about forty statements, and each costs
    /// about 10 µs of processor time less than through TCP on loopback.
    pub fn of_own_server(mut self, socket_directory: &Path) -> Self {
        self.options = self.options.socket(socket_directory);
        self.is_own = true;
        self
    }

    /// Host (an IPv6 address without brackets, or the directory of a socket) and port, for other programs on this machine.
    pub fn host_and_port(&self) -> (String, u16) {
        (self.host().to_owned(), self.options.get_port())
    }

    /// The same as one text for people; an IPv6 address has brackets.
    pub fn shown(&self) -> String {
        let (host, port) = self.host_and_port();
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// sqlx keeps the brackets of an IPv6 address in a URL.
    fn host(&self) -> &str {
        let host = self.options.get_host().trim_start_matches('[').trim_end_matches(']');
        self.socket.as_deref().unwrap_or(host)
    }

    /// The TLS parameters of the daemon for clients of the same server, as the query of a URL: `sslmode=require`. Without the certificate
    /// and the key with which the daemon logs in.
    pub fn tls_for_clients(&self) -> String {
        let own = ["sslcert", "sslkey", "sslpassword"];
        let shared =
            self.tls.split('&').filter(|pair| pair.split_once('=').is_some_and(|(name, _)| !own.contains(&name)));
        shared.collect::<Vec<_>>().join("&")
    }

    /// The environment with which libpq's programs reach a database of this server with the daemon's own login. Not arguments, which every
    /// user of the machine can read. `PGDATABASE` cannot be a URL.
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

    /// A URL for another login and database of the same server, with the TLS parameters.
    pub fn url_for(&self, user: &str, password: &SecretString, database: &str) -> SecretString {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let (host, port) = self.host_and_port();
        if host.starts_with('/') {
            let tls = if self.tls.is_empty() { String::new() } else { format!("&{}", self.tls) };
            return SecretString::from(format!(
                "postgresql://{}:{}@/{}?host={}&port={port}{tls}",
                encode(user),
                encode(password.expose_secret()),
                encode(database),
                encode(&host)
            ));
        }
        // A host from a URL parameter may be any text.
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            percent_encoding::utf8_percent_encode(&host, NOT_IN_HOSTS).to_string()
        };
        let query = if self.tls.is_empty() { String::new() } else { format!("?{}", self.tls) };
        SecretString::from(format!(
            "postgresql://{}:{}@{host}:{port}/{}{query}",
            encode(user),
            encode(password.expose_secret()),
            encode(database)
        ))
    }

    /// Connects with pgdibs's own settings in place of the server's. In every database but the catalog, the session looks up nothing that
    /// another role created (see [`inside`](crate::inside)).
    pub async fn connect(&self, database: &str, application_name: &str) -> Result<PgConnection, sqlx::Error> {
        if database != CATALOG {
            return self.connect_inside(database, application_name).await;
        }
        let options = self.options.clone().database(database).application_name(application_name);
        let mut connection = open(&options).await?;
        enter(&mut connection).await?;
        Ok(connection)
    }

    /// Connections to the catalog: `kept` of them stay open, the others open when they are needed. Their backends have the priority where the
    /// server is the daemon's own.
    ///
    /// In a busy daemon a connection opens slowly: sqlx computes the four thousand rounds of SCRAM in eight hundred pieces, and waits for its
    /// turn among all tasks after each, which a hundred sessions that begin at once would notice.
    pub(crate) fn pool(&self, application_name: &str, priority: Priority, size: u32, kept: u32) -> PgPool {
        let lowers = priority == Priority::Low && self.is_own;
        PgPoolOptions::new()
            .max_connections(size)
            .min_connections(kept)
            // A hundred sessions that begin at once take turns on a few connections, which takes a while.
            .acquire_timeout(Duration::from_secs(8))
            .idle_timeout((kept < size).then_some(Duration::from_secs(120)))
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for > TRUSTED {
                        // sqlx closes a dead connection and tries the next.
                        let tested = tokio::time::timeout(TEST, connection.ping()).await;
                        tested.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    enter(connection).await?;
                    if lowers { priority::lower(connection).await } else { Ok(()) }
                })
            })
            .connect_lazy_with(self.options.clone().database(CATALOG).application_name(application_name))
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let connecting = PgConnection::connect_with(options);
    tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| timed_out(options.get_database()))?
}

/// A running server lets a new session wait silently while another session locks its database.
fn timed_out(database: Option<&str>) -> sqlx::Error {
    let sentence = format!(
        "it let no session into database \"{}\" within {} s. If it lets you into another one, a session may lock this database; to see which: select pid, pg_blocking_pids(pid) from pg_locks where locktype = 'object' and not granted",
        database.unwrap_or_default(),
        CONNECT_TIMEOUT.as_secs()
    );
    std::io::Error::new(std::io::ErrorKind::TimedOut, sentence).into()
}

/// libpq reads `postgresql://user:password@/database?host=/directory`, and the parser of sqlx no user without a host.
fn with_host(url: &str) -> String {
    match url.split_once("@/") {
        // Not an @ in a path or a query.
        Some((before, after)) if before.split_once("://").is_some_and(|(_, user)| !user.contains(['/', '?'])) => {
            format!("{before}@localhost/{after}")
        }
        _ => url.to_owned(),
    }
}

/// Characters that no host name has. sqlx does not decode a host, so the others stay as they are.
const NOT_IN_HOSTS: &percent_encoding::AsciiSet =
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

/// A connection that was used within this time is lent without a test, which saves a round trip per request. A server that crashed takes
/// longer than this to come back.
pub(crate) const TRUSTED: Duration = Duration::from_millis(50);

/// An idle connection answers within this time, or it is dead.
pub(crate) const TEST: Duration = Duration::from_secs(2);

pub(crate) const NOT_OURS: &str = "the server has a database \"pgdibs\" that is not ours: it belongs neither to the daemon's role nor to a superuser. Drop it with: dropdb pgdibs. If another role of a daemon made it, hand it over with: alter database pgdibs owner to the daemon's role";

/// The first statements of a session in the catalog. It looks up nothing there before it knows that the catalog is pgdibs's own: an
/// administrator may rename the catalog while the daemon runs, and another role take its name.
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
    fn tls_for_clients_leaves_out_the_daemons_certificate() {
        for (query, expected) in [
            ("", ""),
            ("?application_name=x", ""),
            ("?sslmode=require", "sslmode=require"),
            (
                "?sslmode=verify-full&sslrootcert=%2Fca.pem&sslcert=%2Fown.pem&sslkey=%2Fown.key",
                "sslmode=verify-full&sslrootcert=%2Fca.pem",
            ),
        ] {
            let url = SecretString::from(format!("postgresql://u:p@h/d{query}"));
            assert_eq!(ServerAddress::parse(&url).unwrap().tls_for_clients(), expected);
        }
    }

    /// Regression: a fragment's `?sslmode=` reached the URLs of clients, and the daemon ignored it (found by fuzzing).
    #[test]
    fn url_with_fragment_is_refused() {
        for url in ["postgresql://u:p@h:5432#x/d?sslmode=require", "postgresql://u:p#w@h/d"] {
            let refused = ServerAddress::parse(&SecretString::from(url.to_owned())).err().unwrap().to_string();
            assert!(refused.contains("write it as %23"), "{refused}");
        }
        assert!(ServerAddress::parse(&SecretString::from("postgresql://u:p%23w@h/d".to_owned())).is_ok());
    }

    /// The form of libpq's manual for a socket, with and without a user.
    #[test]
    fn url_of_socket_gives_urls_of_socket() {
        for url in [
            "postgresql://u:p@/d?host=%2Frun%2Fpostgresql&port=5433&sslmode=disable",
            "postgresql:///d?host=/run/postgresql&port=5433&user=u&password=p&sslmode=disable",
            "postgresql://u:p@%2Frun%2Fpostgresql:5433/d?sslmode=disable",
            "postgresql://u:p@ignored/d?host=/run/postgresql&port=5433&sslmode=disable",
        ] {
            let address = ServerAddress::parse(&SecretString::from(url.to_owned())).unwrap();
            assert_eq!(address.host_and_port(), ("/run/postgresql".to_owned(), 5433), "{url}");
            let theirs = address.url_for("l", &SecretString::from("s".to_owned()), "x_gw0");
            let expected = "postgresql://l:s@/x%5Fgw0?host=%2Frun%2Fpostgresql&port=5433&sslmode=disable";
            assert_eq!(theirs.expose_secret(), expected, "{url}");
            let again = ServerAddress::parse(&theirs).unwrap();
            assert_eq!(again.host_and_port(), address.host_and_port(), "{url}");
        }
    }

    #[test]
    fn url_for_clients_has_no_socket() {
        let url = SecretString::from("postgresql://u:p@127.0.0.1:5432/d".to_owned());
        let address = ServerAddress::parse(&url).unwrap().of_own_server(Path::new("/somewhere/socket"));
        let own = address.libpq_variables("d");
        assert_eq!(own.iter().find(|(name, _)| *name == "PGHOST").unwrap().1.expose_secret(), "/somewhere/socket");
        let theirs = address.url_for("u", &SecretString::from("p".to_owned()), "d");
        assert_eq!(theirs.expose_secret(), "postgresql://u:p@127.0.0.1:5432/d");
    }
}
