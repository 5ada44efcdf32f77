//! A file lock that ends with its process, and says which process has it.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// A killed process's lock lives on for a moment in a child that it had just forked and that has not run its program yet.
const PATIENCE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// Held as long as it lives; the kernel frees it when the process dies in whatever way.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing alone would leave it to children of ours that have just been forked.
        let _ = self.file.unlock();
    }
}

/// What came of an attempt to take a lock.
#[derive(Debug)]
pub(super) enum Taken {
    Ours(FileLock),
    /// Somebody else's, with the process id it wrote down.
    Others(Option<u32>),
}

/// Takes the lock at `path` or says who has it, after a moment's patience.
pub(super) async fn take(path: &Path) -> io::Result<Taken> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match take_at_once(path)? {
            Taken::Others(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            taken => return Ok(taken),
        }
    }
}

fn take_at_once(path: &Path) -> io::Result<Taken> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            let mut lock = FileLock { file };
            lock.file.set_len(0)?;
            lock.file.rewind()?;
            writeln!(lock.file, "{}", std::process::id())?;
            Ok(Taken::Ours(lock))
        }
        Err(TryLockError::WouldBlock) => Ok(Taken::Others(pid_in(&mut file)?)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Who holds the lock at `path` now: `None` when nobody does.
pub(super) fn holder(path: &Path) -> io::Result<Option<Option<u32>>> {
    let mut file = match File::options().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| None),
        Err(TryLockError::WouldBlock) => pid_in(&mut file).map(Some),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn pid_in(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_taker_learns_the_first_ones_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(holder(&path).unwrap(), None);
        let first = take(&path).await.unwrap();
        assert!(matches!(first, Taken::Ours(_)));
        assert!(matches!(take(&path).await.unwrap(), Taken::Others(Some(pid)) if pid == std::process::id()));
        assert_eq!(holder(&path).unwrap(), Some(Some(std::process::id())));
        drop(first);
        assert_eq!(holder(&path).unwrap(), None);
        assert!(matches!(take(&path).await.unwrap(), Taken::Ours(_)));
    }

    /// Regression: a file lock stayed with a child that had just been forked (found by tests of the embedded server).
    #[tokio::test]
    async fn a_forked_child_does_not_keep_a_lock_that_was_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let Taken::Ours(lock) = take(&path).await.unwrap() else { panic!("nobody else has it") };
        // What fork does to the descriptors of a process.
        let _of_the_child = lock.file.try_clone().unwrap();
        drop(lock);
        assert_eq!(holder(&path).unwrap(), None);
        assert!(matches!(take_at_once(&path).unwrap(), Taken::Ours(_)));
    }
}
