//! The first connection to a server that has just started: the embedded server waits for it, and `pgdibs-postgres` opens it.

use secrecy::SecretString;

/// Why the first connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeError {
    /// The server rejected the superuser's password (`28P01`); a retry does not help.
    Password,
    /// Any other error, as one sentence; the server may still be starting.
    NotYet(String),
}

/// Opens the first connection to a server.
pub trait Probe: Send + Sync {
    /// Connects to `url` (the superuser's, with the password) and revokes PUBLIC's CONNECT on the databases that `initdb` creates.
    fn first_connection(&self, url: &SecretString) -> impl Future<Output = Result<(), ProbeError>> + Send;
}
