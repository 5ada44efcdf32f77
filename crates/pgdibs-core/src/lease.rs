//! Leases: who holds which database, and how that ends.

use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::database::DatabaseId;
use crate::name::{Fingerprint, PoolName};
use crate::template::{TemplateId, Timestamp};

/// Identity of a lease (a UUID of version 7, made by the daemon that grants it).
pub type LeaseId = Uuid;

/// Shortest and longest `ttl_seconds` that a client may ask for.
pub const TTL_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;

/// Whether a lease holds, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// It holds. Moved on by its holder (release), the reconciler (expire) or an operator (revoke).
    Live,
    /// Its holder gave it back, by itself or with its run.
    Released,
    /// It was not renewed in time and no session of its login was left.
    Expired,
    /// It was taken away: its pool or template was dropped by force, or its database had vanished.
    Revoked,
}

impl LeaseState {
    /// The name used in the catalog and over HTTP.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Live, Self::Released, Self::Expired, Self::Revoked].into_iter().find(|state| state.as_str() == text)
    }
}

/// How a lease is to be ended: the same words as the states it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// By its holder.
    Released,
    /// By time.
    Expired,
    /// By somebody else.
    Revoked,
}

impl End {
    /// The state a lease has afterwards.
    #[must_use]
    pub fn state(self) -> LeaseState {
        match self {
            Self::Released => LeaseState::Released,
            Self::Expired => LeaseState::Expired,
            Self::Revoked => LeaseState::Revoked,
        }
    }
}

/// The credentials that a live lease hands out. No output ever shows the password: its type cannot be printed.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The login.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Eq for Credentials {}

/// A lease as the catalog has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Its identity.
    pub id: LeaseId,
    /// Whether it holds, or how it ended.
    pub state: LeaseState,
    /// The pool it was taken from.
    pub pool: PoolName,
    /// The template its database is a clone of.
    pub fingerprint: Fingerprint,
    /// Number of that template.
    pub template: TemplateId,
    /// The database behind it; `None` once that is gone.
    pub database: Option<DatabaseId>,
    /// The stable name that the holder connects to.
    pub database_name: String,
    /// The slot with that name.
    pub slot: u32,
    /// The login it connects as; `None` once the lease has ended.
    pub credentials: Option<Credentials>,
    /// The test session it belongs to.
    pub run: Option<String>,
    /// The worker in that session.
    pub worker: Option<String>,
    /// Which of several databases of one worker it is.
    pub alias: String,
    /// Free text for people.
    pub holder: String,
    /// 1 at first, one more with each reset.
    pub generation: u32,
    /// How long it holds without a renewal, in seconds.
    pub ttl_seconds: u64,
    /// Goes up with each renewal; what the expiry watch compares.
    pub renewals: u64,
    /// The spare that a reset in progress brings in.
    pub reset_to: Option<DatabaseId>,
    /// When it was granted.
    pub acquired_at: Timestamp,
    /// When it will end unless it is renewed, for people.
    pub expires_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, in words for people.
    pub ended_reason: Option<String>,
}
