//! Finds the templates whose clones cost much time or disk, and says what would help.

use std::fmt;

use crate::name::{Fingerprint, PoolName};
use crate::snapshot::Snapshot;
use crate::template::{Template, TemplateState};

/// A clone that takes longer than this is worth a sentence.
const SLOW_SECONDS: f64 = 1.0;

/// A clone that takes more of the disk than this is worth a sentence: the default pool keeps six of them.
const BIG_BYTES: u64 = 1 << 30;

/// A ready template with costly clones.
#[derive(Debug, Clone, PartialEq)]
pub struct CostlyClones {
    /// The pool.
    pub pool: PoolName,
    /// The fingerprint of the template.
    pub fingerprint: Fingerprint,
    /// Seconds that a clone takes; `None` before the first one.
    pub seconds: Option<f64>,
    /// Bytes of disk that a clone takes.
    pub bytes: u64,
    /// Whether its clones share its blocks, if that was measured.
    pub shared: Option<bool>,
    /// Whether the server can let clones share blocks, on a file system that can.
    pub clones_files: bool,
}

/// The ready templates with costly clones. Those whose clones share blocks are none of them, unless they take long.
#[must_use]
pub fn costly(snapshot: &Snapshot) -> Vec<CostlyClones> {
    let cost = |template: &Template| {
        let (seconds, bytes) = (template.seconds_of_clone(), template.disk_of_clone()?);
        (template.is_large() && (seconds.is_some_and(|seconds| seconds > SLOW_SECONDS) || bytes > BIG_BYTES)).then(
            || CostlyClones {
                pool: template.pool.clone(),
                fingerprint: template.fingerprint.clone(),
                seconds,
                bytes,
                shared: template.shares_blocks(),
                clones_files: snapshot.limits.clones_files,
            },
        )
    };
    snapshot.templates.iter().filter(|template| template.state == TemplateState::Ready).filter_map(cost).collect()
}

impl fmt::Display for CostlyClones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, fingerprint, seconds, bytes, shared, clones_files } = self;
        let megabytes = bytes.div_ceil(1_000_000);
        write!(f, "pool {pool}: each clone of template {fingerprint} takes ")?;
        if let Some(seconds) = seconds {
            write!(f, "{seconds:.1} s and ")?;
        }
        write!(f, "{megabytes} MB of disk; ")?;
        f.write_str(match (clones_files, shared) {
            (_, Some(true)) => {
                "it shares the blocks of the template, so its time is that of its files and of the server's checkpoints; \
                 fewer tables, or fsync = off on a server for tests only, would help"
            }
            (true, Some(false)) => {
                "the file system of the server's data directory does not let clones share blocks: XFS with reflink=1 or Btrfs would, \
                 or a smaller template helps"
            }
            (true, None) => {
                "if the file system of the server's data directory is not XFS with reflink=1 or Btrfs, one of these would let clones \
                 share the template's blocks, or a smaller template helps"
            }
            (false, _) => {
                "Postgres 18 with its data directory on XFS with reflink=1 or Btrfs would let clones share the template's blocks, \
                 or a smaller template helps"
            }
        })
    }
}
