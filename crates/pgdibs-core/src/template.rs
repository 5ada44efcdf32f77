//! Templates: a schema that is built once and then cloned.

use std::time::Duration;

use crate::name::{DatabaseName, Fingerprint, PoolName};
use crate::pool::Strategy;
use crate::text_enum::text_enum;

pub use crate::id::TemplateId;

/// A point in time by the server's clock, for display and for comparison with others: microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time from this one to a later one; none if that is earlier.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_micros(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

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
    /// Seconds that its first clone took; of a large template, the last one.
    pub clone_seconds: Option<f64>,
    /// Bytes of disk that the last clone of a large template took, if the daemon could measure them: far fewer than
    /// its size when the file system lets the clone share its blocks.
    pub clone_bytes: Option<u64>,
    /// Whether the server sorts otherwise than when it was built: an upgrade of its image or its libraries changed a collation.
    pub collations_changed: bool,
    /// Why no clone of it can be made, when it is ready.
    pub clone_error: Option<String>,
    /// Why it failed, or why it retires.
    pub detail: Option<String>,
    /// Whether its current step may run now (false until `retry_at`).
    pub due: bool,
}

/// The size from which a template counts as large; see [`is_large`].
///
/// Measured on Postgres 18, two cores: with fsync off a file copy is the faster at every size (9 MB: 0.05 s, `wal_log` 0.14 s; 1 GB: 0.9 s and
/// 2.3 s, or 0.07 s where blocks are shared). With fsync on, where each file is flushed, `wal_log` wins at 9 MB (1.0 s, copy 2.0 s), both take
/// the same at 137 MB, and the copy wins from 265 MB on (0.42 s, `wal_log` 0.64 s).
const LARGE_BYTES: u64 = 256 << 20;

/// Whether a template of this size is large: `create database` takes its time for the contents, no longer for the number of files.
#[must_use]
pub fn is_large(size_bytes: Option<u64>) -> bool {
    size_bytes.is_some_and(|size| size >= LARGE_BYTES)
}

/// Whether clones share the blocks of a template of this size: see [`Template::shares_blocks`].
#[must_use]
pub fn shares_blocks(size_bytes: Option<u64>, clone_bytes: Option<u64>) -> Option<bool> {
    let size = size_bytes.filter(|_| is_large(size_bytes))?;
    Some(clone_bytes? <= size / 4)
}

/// How the clones of a template are copied when its pool says `auto`: a large one as files, which is faster from that size on however its
/// contents look, any other by the strategy that was measured as the faster. `None` while that is being measured.
#[must_use]
pub fn auto_strategy(size_bytes: Option<u64>, measured: Option<Strategy>) -> Option<Strategy> {
    if is_large(size_bytes) { Some(Strategy::FileCopy) } else { measured }
}

impl Template {
    /// See [`auto_strategy`].
    #[must_use]
    pub fn auto_strategy(&self) -> Option<Strategy> {
        auto_strategy(self.size_bytes, self.strategy)
    }

    /// Whether it is large; see [`is_large`].
    #[must_use]
    pub fn is_large(&self) -> bool {
        is_large(self.size_bytes)
    }

    /// Whether the clones of a large template share its blocks; `None` while that was not measured. A clone whose blocks are all its own
    /// uses at least the size of the template.
    #[must_use]
    pub fn shares_blocks(&self) -> Option<bool> {
        shares_blocks(self.size_bytes, self.clone_bytes)
    }

    /// Bytes of disk that a clone takes: as measured when clones share blocks, otherwise the size of the template.
    #[must_use]
    pub fn disk_of_clone(&self) -> Option<u64> {
        if self.shares_blocks() == Some(true) { self.clone_bytes } else { self.size_bytes }
    }

    /// Seconds that a clone takes: the mean of the faster measured strategy, or those of the first or last clone.
    #[must_use]
    pub fn seconds_of_clone(&self) -> Option<f64> {
        let timed = self.measured.iter().map(|&(.., milliseconds)| milliseconds / 1000.0);
        timed.min_by(f64::total_cmp).or(self.clone_seconds)
    }

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
