//! Where a build puts what it makes.

use std::path::PathBuf;

use secrecy::SecretString;

use super::database::DatabaseCopy;

/// The empty database that becomes the template, and the login that builds it.
#[derive(Debug, Clone)]
pub struct BuildTarget {
    /// `postgresql://user:password@host:port/database`, its parameters (such as `sslmode`) included.
    pub url: SecretString,
    /// A host name, an address, or the directory of a socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The build's login.
    pub user: String,
    /// Its password, which is masked in output and errors.
    pub password: SecretString,
    /// The database's name.
    pub database: String,
    /// The path of psql, for SQL sources; pg_dump and pg_restore are beside it.
    pub psql: PathBuf,
    /// For a `database` source.
    pub copied: Option<DatabaseCopy>,
}
