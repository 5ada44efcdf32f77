//! Rights: what the daemon's role may do on the server.

/// What the daemon's role may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    Superuser,
    /// CREATEDB and CREATEROLE: everything pgdibs does, except untrusted extensions and sessions of superusers.
    DatabasesAndRoles,
}
