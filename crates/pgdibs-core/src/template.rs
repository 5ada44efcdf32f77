//! Templates: a schema that was built once, from which databases are cloned.

use crate::name::{DatabaseName, Fingerprint, PoolName};
use crate::pool::Strategy;

/// Number of a template, from the same sequence as the numbers of databases and logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateId(pub i64);

/// A point in time, for people and for comparing with other such points of the same server: microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

/// Where a template is in its life. There are no other states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateState {
    /// Somebody applies migrations to it. Moved on by its builder (seal, abandon) or, when that one falls silent, by the reconciler.
    Building,
    /// Sealed and published; clones are made of it. Moved on by the reconciler (unused) or by `DELETE`.
    Ready,
    /// To be dropped once its databases are gone. Moved on by the reconciler.
    Retiring,
    /// The build failed. The row says why until the next build of that fingerprint; its database is dropped.
    Failed,
}

impl TemplateState {
    /// The name used in the catalog and over HTTP.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Retiring => "retiring",
            Self::Failed => "failed",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Building, Self::Ready, Self::Retiring, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// A template as the catalog has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Its number.
    pub id: TemplateId,
    /// The pool it belongs to.
    pub pool: PoolName,
    /// What its builder calls this state of the schema.
    pub fingerprint: Fingerprint,
    /// Where it is in its life.
    pub state: TemplateState,
    /// The name its database has at present: `_build_<n>` until it is published.
    pub name: DatabaseName,
    /// The identity of its database; `None` before it was created and after it was dropped.
    pub oid: Option<u32>,
    /// Who builds it, in words for people.
    pub holder: String,
    /// Whether the builder has asked for the seal.
    pub seal_requested: bool,
    /// Whether a builder over HTTP has neither renewed nor had a session for the grace time. Always false for a build by a daemon that lives.
    pub builder_silent: bool,
    /// When the build began.
    pub build_started_at: Timestamp,
    /// How long building and sealing took, in seconds.
    pub built_seconds: Option<f64>,
    /// When it was published.
    pub built_at: Option<Timestamp>,
    /// Size on disk, in bytes.
    pub size_bytes: Option<u64>,
    /// Tables, indexes, sequences, views and composite types outside the system schemas; known once it is sealed.
    pub relations: Option<u64>,
    /// Last `PUT` of it or lease from it.
    pub last_used_at: Timestamp,
    /// Seconds since then, by the server's clock.
    pub unused_seconds: u64,
    /// How its clones are copied, once known.
    pub strategy: Option<Strategy>,
    /// Measured clones so far, by strategy: count and mean milliseconds.
    pub measured: Vec<(Strategy, u32, f64)>,
    /// Why it failed, or why it retires.
    pub detail: Option<String>,
    /// Whether its failed step may be tried now (false while it waits for `retry_at`).
    pub due: bool,
}
