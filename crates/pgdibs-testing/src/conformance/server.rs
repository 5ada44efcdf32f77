//! What the suite needs of a server: sessions, and changes that pgdibs does not make itself.

use pgdibs_core::lease::Credentials;
use pgdibs_core::name::RoleName;

/// What the suite needs of a server beside [`Backend`](pgdibs_core::backend::Backend): a client that connects.
pub trait ConformanceServer: Send + Sync {
    /// A session.
    type Session: Send;

    /// Logs in.
    ///
    /// # Errors
    /// The server's refusal, in words.
    fn connect(
        &self,
        credentials: &Credentials,
        database: &str,
    ) -> impl Future<Output = Result<Self::Session, String>> + Send;

    /// Leaves.
    fn disconnect(&self, session: Self::Session) -> impl Future<Output = ()> + Send;

    /// Writes a mark into the session's database, and commits. The first one makes the table for them.
    ///
    /// # Errors
    /// The server's refusal, or that the session was ended.
    fn write(&self, session: &mut Self::Session, mark: &str) -> impl Future<Output = Result<(), String>> + Send;

    /// Every mark in the session's database, in the order of their writing; none when there is no table for them.
    ///
    /// # Errors
    /// That the session was ended.
    fn read(&self, session: &mut Self::Session) -> impl Future<Output = Result<Vec<String>, String>> + Send;

    /// Opens a database as a superuser if it is closed, enters it, leaves it, and waits until the server's statistics know of it.
    fn look_into(&self, database: &str) -> impl Future<Output = ()> + Send;

    /// `create database` by a role that is not ours.
    fn create_by_hand(&self, database: &str) -> impl Future<Output = ()> + Send;

    /// `drop database … with (force)` as a superuser; of a database that is not there: nothing.
    fn drop_by_hand(&self, database: &str) -> impl Future<Output = ()> + Send;

    /// `alter database … rename` as a superuser, after ending its sessions.
    fn rename_by_hand(&self, database: &str, to: &str) -> impl Future<Output = ()> + Send;

    /// Names of all roles that we make for leases, builds and kept databases (`pgdibs_l_<n>`).
    fn logins(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Whether the server has a role of this name that no one logs in as.
    fn has_owner(&self, role: &RoleName) -> impl Future<Output = bool> + Send;
}
