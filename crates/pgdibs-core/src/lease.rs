//! Leases: the exclusive use of one database by one holder, and the ways it ends.

use secrecy::{ExposeSecret as _, SecretString};

use crate::database::DatabaseId;
use crate::name::{Fingerprint, PoolName};
use crate::template::{TemplateId, Timestamp};
use crate::text_enum::text_enum;

pub use crate::id::LeaseId;

/// The state of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// In force. Its holder (release), the reconciler (expire) or an operator (revoke) ends it.
    Live,
    /// Its holder released it, or ended its run.
    Released,
    /// It was not renewed in time, and its login had no session.
    Expired,
    /// Its pool or template was dropped by force, or its database no longer exists.
    Revoked,
}

text_enum!(LeaseState { Live = "live", Released = "released", Expired = "expired", Revoked = "revoked" });

/// How to end a lease, named as the state that results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// By its holder.
    Released,
    /// By time.
    Expired,
    /// By an operator or by the loss of its database.
    Revoked,
}

impl End {
    /// The state of the lease afterwards.
    #[must_use]
    pub fn state(self) -> LeaseState {
        match self {
            Self::Released => LeaseState::Released,
            Self::Expired => LeaseState::Expired,
            Self::Revoked => LeaseState::Revoked,
        }
    }
}

/// The login of a live lease. Its `Debug` output hides the password.
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

/// A lease as recorded in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Its identity.
    pub id: LeaseId,
    /// Its state.
    pub state: LeaseState,
    /// The pool of its database.
    pub pool: PoolName,
    /// The fingerprint of the template that its database is a clone of.
    pub fingerprint: Fingerprint,
    /// The number of that template.
    pub template: TemplateId,
    /// Its current database; `None` after that database was deleted.
    pub database: Option<DatabaseId>,
    /// The stable name that the holder connects to.
    pub database_name: String,
    /// The slot with that name.
    pub slot: u32,
    /// The login of the holder; `None` after the lease has ended.
    pub credentials: Option<Credentials>,
    /// The test session it belongs to.
    pub run: Option<String>,
    /// The worker in that session.
    pub worker: Option<String>,
    /// Tells the databases of one worker apart.
    pub alias: String,
    /// A label of the holder, for display.
    pub holder: String,
    /// 1 at first; each reset adds 1.
    pub generation: u32,
    /// Seconds it lasts without a renewal.
    pub ttl_seconds: u64,
    /// Each renewal adds 1; the expiry watch compares it.
    pub renewals: u64,
    /// The spare that the reset in progress has reserved.
    pub reset_to: Option<DatabaseId>,
    /// When it was granted.
    pub acquired_at: Timestamp,
    /// When it ends unless it is renewed, for display.
    pub expires_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, for display.
    pub ended_reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.to_owned(), password: password.into() }
    }

    #[test]
    fn credentials_compare_both_fields_and_hide_the_password() {
        let one = credentials("u", "secret");
        assert_eq!(one, credentials("u", "secret"));
        for other in [credentials("v", "secret"), credentials("u", "other")] {
            assert_ne!(one, other);
        }
        assert!(!format!("{one:?}").contains("secret\""), "{one:?}");
    }

    #[test]
    fn end_leads_to_the_state_of_its_name() {
        let ends = [End::Released, End::Expired, End::Revoked];
        assert_eq!(ends.map(|end| end.state().as_str()), ["released", "expired", "revoked"]);
    }
}
