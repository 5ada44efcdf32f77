//! Databases: every clone that pgdibs has made, and how to reach one.

use pgdibs_core::database as domain;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::bounded::PoolField;

/// What a database is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseState {
    /// It is being cloned.
    Creating,
    /// It waits, closed to connections, to enter a slot.
    Spare,
    /// It stands in a slot, to be leased.
    Ready,
    /// A lease holds it.
    Leased,
    /// It is being dropped.
    Retiring,
    /// It is kept after its lease.
    Kept,
    /// Three steps on it failed in a row.
    Blocked,
    /// A value that a newer daemon has added.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl DatabaseState {
    /// The state on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Spare => "spare",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Retiring => "retiring",
            Self::Kept => "kept",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }
}

impl From<domain::DatabaseState> for DatabaseState {
    fn from(state: domain::DatabaseState) -> Self {
        match state {
            domain::DatabaseState::Creating => Self::Creating,
            domain::DatabaseState::Spare => Self::Spare,
            domain::DatabaseState::Ready => Self::Ready,
            domain::DatabaseState::Leased => Self::Leased,
            domain::DatabaseState::Retiring => Self::Retiring,
            domain::DatabaseState::Kept => Self::Kept,
            domain::DatabaseState::Blocked => Self::Blocked,
        }
    }
}

/// Which databases are listed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DatabasesQuery {
    /// Those of this pool only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolField>,
}

/// A database.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Database {
    /// Its name.
    pub database: String,
    /// Its pool.
    pub pool: String,
    /// What it is there for.
    pub state: DatabaseState,
    /// Its slot, while it has one.
    pub slot: Option<u32>,
    /// The template that it is a clone of.
    pub fingerprint: Option<String>,
    /// Its oid in `pg_database`.
    pub oid: Option<u32>,
    /// How many sessions it has.
    pub sessions: Option<u32>,
    /// The lease that holds it, or for which it is kept.
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

/// A request for credentials: its path says everything.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsRequest {}

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
