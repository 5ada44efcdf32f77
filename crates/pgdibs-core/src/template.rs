//! Templates: a schema that is built once and then cloned.

use crate::name::{DatabaseName, Fingerprint, PoolName};
use crate::pool::Strategy;
use crate::text_enum::text_enum;

pub use crate::id::TemplateId;

/// A point in time by the server's clock, for display and for comparison with others: microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

/// The state of a template. There are no other states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateState {
    /// A builder applies migrations to it. The builder moves it on (seal, abandon), or the reconciler when the builder stops renewing.
    Building,
    /// Sealed and published; the reconciler clones it. The reconciler (unused, or the collations changed) or `DELETE` moves it on.
    Ready,
    /// To be dropped after its databases. The reconciler moves it on.
    Retiring,
    /// The build failed, or the collations of the server changed after it. The row shows the reason until the next build of that fingerprint; the reconciler drops its database.
    Failed,
}

text_enum!(TemplateState { Building = "building", Ready = "ready", Retiring = "retiring", Failed = "failed" });

/// A template as recorded in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Its number.
    pub id: TemplateId,
    /// The pool it belongs to.
    pub pool: PoolName,
    /// The builder's identifier of this state of the schema.
    pub fingerprint: Fingerprint,
    /// Its state.
    pub state: TemplateState,
    /// The current name of its database: `_build_<n>` until it is published.
    pub name: DatabaseName,
    /// The identity of its database; `None` before its creation and after its drop.
    pub oid: Option<u32>,
    /// A label of the builder, for display.
    pub holder: String,
    /// Whether the builder has requested the seal.
    pub seal_requested: bool,
    /// Whether a builder over HTTP has neither renewed nor had a session for the grace time. Always false while a daemon builds.
    pub builder_silent: bool,
    /// When the build started.
    pub build_started_at: Timestamp,
    /// Seconds that building and sealing took.
    pub built_seconds: Option<f64>,
    /// When it was published.
    pub built_at: Option<Timestamp>,
    /// Size on disk, in bytes.
    pub size_bytes: Option<u64>,
    /// Tables, indexes, sequences, views and composite types outside the system schemas; known after the seal.
    pub relations: Option<u64>,
    /// The last `PUT` of it or lease from it.
    pub last_used_at: Timestamp,
    /// Seconds since then, by the server's clock.
    pub unused_seconds: u64,
    /// Whether a lease was ever requested of it.
    pub leased: bool,
    /// How its clones are copied, once measured.
    pub strategy: Option<Strategy>,
    /// Measured clones so far, by strategy: count and mean milliseconds.
    pub measured: Vec<(Strategy, u32, f64)>,
    /// Whether the server sorts otherwise than when it was built: an upgrade of its image or its libraries changed a collation.
    pub collations_changed: bool,
    /// Why no clone of it can be made, when it is ready.
    pub clone_error: Option<String>,
    /// Why it failed, or why it retires.
    pub detail: Option<String>,
    /// Whether its current step may run now (false until `retry_at`).
    pub due: bool,
}

impl Template {
    /// Why a ready template gives no database, in a sentence.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        self.clone_error.as_ref().map(|error| no_clone(self.fingerprint.as_str(), error))
    }
}

/// The sentence for callers that need a clone of a template, when all that were tried have failed.
#[must_use]
pub fn no_clone(fingerprint: &str, error: &str) -> String {
    format!(
        "template \"{fingerprint}\" is built, but no clone of it can be made: {error}; pgdibs tries again once a minute"
    )
}
