//! The first connection to a server that has just come up: the embedded server waits for it, and the Postgres crate opens it.

use secrecy::SecretString;

/// Why the first connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeError {
    /// The server refused the superuser's password (`28P01`): waiting does not help.
    Password,
    /// Anything else, in one sentence; the server may still be coming up.
    NotYet(String),
}

/// Opens the first connection to a server.
pub trait Probe: Send + Sync {
    /// Connects to `url` (the superuser's, password included) and revokes PUBLIC's CONNECT on the databases that `initdb` makes.
    fn first_connection(&self, url: &SecretString) -> impl Future<Output = Result<(), ProbeError>> + Send;
}
