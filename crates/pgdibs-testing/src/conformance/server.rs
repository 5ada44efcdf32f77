//! The suite's access to a server: sessions, and external changes.

use pgdibs_core::lease::Credentials;
use pgdibs_core::name::RoleName;

/// Access to the server of a [`Backend`](pgdibs_core::backend::Backend) as a client and as a superuser.
pub trait ConformanceServer: Send + Sync {
    /// A session.
    type Session: Send;

    /// Logs in.
    ///
    /// # Errors
    /// The server's error as text.
    fn connect(
        &self,
        credentials: &Credentials,
        database: &str,
    ) -> impl Future<Output = Result<Self::Session, String>> + Send;

    /// Ends a session.
    fn disconnect(&self, session: Self::Session) -> impl Future<Output = ()> + Send;

    /// Writes a row into the session's database and commits. The first write creates the table.
    ///
    /// # Errors
    /// The server's error, also if the session has ended.
    fn write(&self, session: &mut Self::Session, row: &str) -> impl Future<Output = Result<(), String>> + Send;

    /// All rows in the session's database, in the order of their writes; none if there is no table.
    ///
    /// # Errors
    /// The server's error if the session has ended.
    fn read(&self, session: &mut Self::Session) -> impl Future<Output = Result<Vec<String>, String>> + Send;

    /// Opens a database as a superuser if it is closed, connects, disconnects, and waits until the server's statistics have it.
    fn connect_externally(&self, database: &str) -> impl Future<Output = ()> + Send;

    /// `create database` as a foreign role.
    fn create_externally(&self, database: &str) -> impl Future<Output = ()> + Send;

    /// `drop database … with (force)` as a superuser; a missing database is ignored.
    fn drop_externally(&self, database: &str) -> impl Future<Output = ()> + Send;

    /// `alter database … rename` as a superuser, after ending its sessions.
    fn rename_externally(&self, database: &str, to: &str) -> impl Future<Output = ()> + Send;

    /// The generated logins of leases, builds and kept databases (`pgdibs_l_<n>`).
    fn logins(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Whether the server has a role with this name and without LOGIN.
    fn has_owner(&self, role: &RoleName) -> impl Future<Output = bool> + Send;
}
