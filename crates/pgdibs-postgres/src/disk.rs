//! The disk of the server: its free space, and what a single clone takes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::facts::ServerFacts;

/// Free bytes on the disk of the server's data directory, when that directory is on this machine and reachable.
#[allow(clippy::unnecessary_cast, reason = "narrower types than u64 on other systems than Linux")]
pub(crate) fn free_bytes(facts: &ServerFacts) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(facts.data_directory.as_deref()?).ok()?;
    Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// What the daemon knows about the server's disk beside its free space.
#[derive(Default)]
pub(crate) struct Disk {
    writers: Arc<Mutex<Writers>>,
    /// Whether the server failed to clone files, so that it copies them from then on.
    cannot_clone_files: AtomicBool,
}

/// The steps that take or free much of the disk.
#[derive(Default)]
struct Writers {
    running: usize,
    /// How many ever began.
    begun: u64,
}

/// One of these steps while it runs.
pub(crate) struct Writer {
    writers: Arc<Mutex<Writers>>,
    /// Its number, if no other one ran when it began.
    alone: Option<u64>,
}

impl Disk {
    pub(crate) fn start(&self) -> Writer {
        let mut writers = self.writers.lock();
        writers.begun += 1;
        writers.running += 1;
        Writer { alone: (writers.running == 1).then_some(writers.begun), writers: Arc::clone(&self.writers) }
    }

    /// Whether a file copy may be told to clone files.
    pub(crate) fn may_clone_files(&self) -> bool {
        !self.cannot_clone_files.load(Ordering::Relaxed)
    }

    pub(crate) fn clone_files_no_more(&self) {
        self.cannot_clone_files.store(true, Ordering::Relaxed);
    }
}

impl Writer {
    /// Whether no other step took or freed disk since this one began, so that the change of the free space is its own.
    pub(crate) fn ran_alone(&self) -> bool {
        self.alone == Some(self.writers.lock().begun)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.writers.lock().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writer_ran_alone_unless_another_overlapped_it() {
        let disk = Disk::default();
        let first = disk.start();
        assert!(first.ran_alone());
        let second = disk.start();
        assert!(!first.ran_alone() && !second.ran_alone());
        drop(second);
        assert!(!first.ran_alone(), "the other one began after it");
        let third = disk.start();
        drop(first);
        assert!(!third.ran_alone(), "another one ran when it began");
        drop(third);
        assert!(disk.start().ran_alone());
    }
}
