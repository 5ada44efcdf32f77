//! The identities of templates, databases and leases, which refer to each other and to pools.

use uuid::Uuid;

/// The number of a template, from the same sequence as the numbers of databases and logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateId(pub i64);

/// The number of a database; its login carries the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseId(pub i64);

/// The identity of a lease: a UUID of version 7, made by the daemon that grants it.
pub type LeaseId = Uuid;
