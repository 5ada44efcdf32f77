//! Databases: every clone that pgdibs has made, and how to reach one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A database.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Database {
    /// Its name.
    pub database: String,
    /// Its pool.
    pub pool: String,
    /// `creating`, `spare`, `ready`, `leased`, `retiring`, `kept` or `blocked`.
    pub state: String,
    /// Its slot, while it has one.
    pub slot: Option<u32>,
    /// The template that it is a clone of.
    pub fingerprint: Option<String>,
    /// Its oid in `pg_database`.
    pub oid: Option<u32>,
    /// How many sessions it has.
    pub sessions: Option<u32>,
    /// The lease that holds it.
    pub lease: Option<String>,
    /// When its clone began.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it became ready.
    #[schema(format = DateTime)]
    pub ready_at: Option<String>,
    /// Until when it is kept.
    #[schema(format = DateTime)]
    pub kept_until: Option<String>,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// How many steps on it failed in a row.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// All databases.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Databases {
    /// In the order of their creation.
    pub databases: Vec<Database>,
}

/// How to reach a leased or kept database.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Credentials {
    /// Its name.
    pub database: String,
    /// `postgresql://user:password@host:port/database`.
    pub url: String,
    /// The host in that URL.
    pub host: String,
    /// The port in that URL.
    pub port: u16,
    /// The login.
    pub user: String,
    /// Its password.
    pub password: String,
}
