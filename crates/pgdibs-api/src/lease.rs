//! Leases: one database for one holder, until it is released, revoked or not renewed.

#[cfg(test)]
mod tests;

use std::time::Duration;

use pgdibs_core::lease as domain;
use pgdibs_core::name::PoolName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::bounded::{BoundedInteger, BoundedList, FingerprintField, Label, Name, PoolField, Text, WaitSeconds};
use crate::limits::{
    DEFAULT_ALIAS, DEFAULT_KEEP_SECONDS, DEFAULT_TTL_SECONDS, DEFAULT_VIA, DEFAULT_WAIT, LARGEST_BATCH,
    LONGEST_KEEP_SECONDS, LONGEST_TTL_SECONDS,
};
use crate::time::rfc3339;

/// `ttl_seconds`.
pub type Ttl = BoundedInteger<1, LONGEST_TTL_SECONDS>;

/// `seconds` of a keep.
pub type KeepSeconds = BoundedInteger<1, LONGEST_KEEP_SECONDS>;

// serde cannot refuse unknown fields across a flattened struct, so the fields that both requests have are written by a macro.
macro_rules! acquire_request {
    ($(#[$meta:meta])* $name:ident { $($more:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The pool to take a database from.
            pub pool: PoolField,
            /// The template; that of the run or the pool's current one unless named.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub fingerprint: Option<FingerprintField>,
            /// The test session. Together with `worker` and `alias` it names the caller: the same three get the lease that they hold.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub run: Option<Label>,
            /// The worker of that session; `gwN` gets slot N when it is free.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub worker: Option<Label>,
            /// Which of the worker's databases it is.
            #[schema(default = json!(DEFAULT_ALIAS))]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub alias: Option<Label>,
            /// Free text about the caller.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub holder: Option<Text>,
            /// How long the lease lives without a renewal.
            #[schema(default = json!(DEFAULT_TTL_SECONDS))]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub ttl_seconds: Option<Ttl>,
            /// Resets the lease if the caller holds it already.
            #[schema(default = false)]
            #[serde(default)]
            pub fresh: bool,
            /// Which advertised address to hand out.
            #[schema(default = json!(DEFAULT_VIA))]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub via: Option<Label>,
            $($more)*
        }
    };
}

acquire_request! {
    /// A lease to acquire.
    AcquireRequest {
        /// How long to wait for a database.
        #[schema(default = json!(DEFAULT_WAIT.as_secs()))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub wait_seconds: Option<WaitSeconds>,
    }
}

acquire_request! {
    /// One lease of a batch.
    BatchLease {}
}

impl BatchLease {
    /// Any database of `pool`.
    #[must_use]
    pub fn new(pool: PoolName) -> Self {
        Self {
            pool: Name(pool),
            fingerprint: None,
            run: None,
            worker: None,
            alias: None,
            holder: None,
            ttl_seconds: None,
            fresh: false,
            via: None,
        }
    }
}

impl AcquireRequest {
    /// Any database of `pool`.
    #[must_use]
    pub fn new(pool: PoolName) -> Self {
        BatchLease::new(pool).into()
    }

    /// The lease as one of a batch, and the wait.
    #[must_use]
    pub fn into_batch_lease(self) -> (BatchLease, Duration) {
        let Self { pool, fingerprint, run, worker, alias, holder, ttl_seconds, fresh, via, wait_seconds } = self;
        let wait = wait_seconds.map_or(DEFAULT_WAIT, WaitSeconds::get);
        (BatchLease { pool, fingerprint, run, worker, alias, holder, ttl_seconds, fresh, via }, wait)
    }
}

impl From<BatchLease> for AcquireRequest {
    fn from(lease: BatchLease) -> Self {
        let BatchLease { pool, fingerprint, run, worker, alias, holder, ttl_seconds, fresh, via } = lease;
        Self { pool, fingerprint, run, worker, alias, holder, ttl_seconds, fresh, via, wait_seconds: None }
    }
}

type BatchLeases = BoundedList<BatchLease, 1, LARGEST_BATCH>;

/// Leases to acquire together: all of them or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// What to take.
    pub leases: BatchLeases,
    /// How long to wait for all of them.
    #[schema(default = json!(DEFAULT_WAIT.as_secs()))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<WaitSeconds>,
    /// A worker `gwN` gets slot N and no other.
    #[schema(default = false)]
    #[serde(default)]
    pub exact_slot: bool,
    /// One login that opens all of them.
    #[schema(default = false)]
    #[serde(default)]
    pub shared_login: bool,
}

/// A renewal.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The time to live from now on; as before unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<Ttl>,
}

/// A reset.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// How long to wait for a spare.
    #[schema(default = json!(DEFAULT_WAIT.as_secs()))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<WaitSeconds>,
    /// The one to leave behind: a repeated call does not reset twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<BoundedInteger<1, 2_147_483_647>>,
}

/// How long to keep a database, and why.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepRequest {
    /// How long to keep the database, from now.
    #[schema(default = json!(DEFAULT_KEEP_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<KeepSeconds>,
    /// Why it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}

/// `?via=` on the calls that answer with credentials.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ViaQuery {
    /// Which advertised address to hand out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Label>,
}

/// Which leases are listed, in a query.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeasesQuery {
    /// Those of this pool only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolField>,
    /// Those of this run only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Label>,
    /// Live ones, ended ones of the last 24 hours, or both.
    #[param(default = "live")]
    #[serde(default)]
    pub state: LeaseFilter,
}

/// Which leases are listed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(default = json!("live"))]
pub enum LeaseFilter {
    /// Live ones.
    #[default]
    Live,
    /// Ended ones of the last 24 hours.
    Ended,
    /// Both.
    All,
}

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
    /// A value that a newer daemon has added.
    #[serde(other, skip_serializing)]
    Unknown,
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

/// A lease. `url`, `host`, `port`, `user` and `password` are there while it is live, and never in lists.
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
