//! Leases: one database for one holder, until it is released, revoked or not renewed.

use pgdibs_core::lease as domain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::rfc3339;

/// Whether a lease lives, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Its holder has the database.
    Live,
    /// Its holder gave it back, or its run ended.
    Released,
    /// It was not renewed in time.
    Expired,
    /// Its database, pool or template was dropped.
    Revoked,
}

impl From<domain::LeaseState> for LeaseState {
    fn from(state: domain::LeaseState) -> Self {
        match state {
            domain::LeaseState::Live => Self::Live,
            domain::LeaseState::Released => Self::Released,
            domain::LeaseState::Expired => Self::Expired,
            domain::LeaseState::Revoked => Self::Revoked,
        }
    }
}

/// The credentials of a live lease.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Access {
    /// `postgresql://user:password@host:port/database`, with `sslmode` where the daemon itself connects with it.
    pub url: String,
    /// The host in that URL.
    pub host: String,
    /// The port in that URL.
    pub port: u16,
    /// The login of this lease alone.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// A lease. Lists show it without credentials.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// Names the lease in every later call.
    #[schema(format = Uuid)]
    pub id: String,
    /// Whether it lives.
    pub state: LeaseState,
    /// The pool of its database.
    pub pool: String,
    /// The template that its database is a clone of.
    pub fingerprint: String,
    /// The database's name: the pool's and the slot's.
    pub database: String,
    /// A small number that no other live lease of the pool has.
    pub slot: u32,
    /// Present for the holder of a live lease.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// The run that it was acquired for.
    pub run: Option<String>,
    /// The worker of that run.
    pub worker: Option<String>,
    /// Which of the worker's databases it is; `default` unless named.
    pub alias: String,
    /// Free text about its holder.
    pub holder: String,
    /// Counts the databases that the lease has had: 1, and one more with each reset.
    #[schema(minimum = 1)]
    pub generation: u32,
    /// When it was granted.
    #[schema(format = DateTime)]
    pub acquired_at: String,
    /// When it ends unless it is renewed.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    pub ended_at: Option<String>,
    /// Why it ended.
    pub ended_reason: Option<String>,
    /// How long it lives without a renewal, in seconds.
    pub ttl_seconds: u64,
    /// When to renew next, in seconds from this answer: a third of the time to live.
    pub renew_after_seconds: f64,
    /// How long the caller waited; in answers to an acquire only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub waited_seconds: Option<f64>,
}

impl Lease {
    /// The lease as lists show it: without credentials.
    #[must_use]
    pub fn listed(lease: domain::Lease) -> Self {
        Self {
            id: lease.id.to_string(),
            state: lease.state.into(),
            pool: lease.pool.to_string(),
            fingerprint: lease.fingerprint.to_string(),
            database: lease.database_name,
            slot: lease.slot,
            access: None,
            run: lease.run,
            worker: lease.worker,
            alias: lease.alias,
            holder: lease.holder,
            generation: lease.generation,
            acquired_at: rfc3339(lease.acquired_at),
            expires_at: rfc3339(lease.expires_at),
            ended_at: lease.ended_at.map(rfc3339),
            ended_reason: lease.ended_reason,
            ttl_seconds: lease.ttl_seconds,
            renew_after_seconds: third_of(lease.ttl_seconds),
            waited_seconds: None,
        }
    }

    /// Its URL, password included, while the caller holds it.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.access.as_ref().map(|access| access.url.as_str())
    }
}

/// A third of the time to live, to the millisecond: two renewals may get lost.
#[allow(clippy::cast_precision_loss, reason = "at most 3600")]
fn third_of(ttl_seconds: u64) -> f64 {
    (ttl_seconds as f64 * 1000.0 / 3.0).floor() / 1000.0
}

/// Several leases.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Leases {
    /// In the order of the request, or newest last.
    pub leases: Vec<Lease>,
}

/// What a keep promises: the database stays after the lease, under another name.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    /// The name that the database has once the lease is over.
    pub kept_database: String,
    /// Its URL under that name, password included.
    pub kept_url: String,
    /// Until when it is kept.
    #[schema(format = DateTime)]
    pub kept_until: String,
}
