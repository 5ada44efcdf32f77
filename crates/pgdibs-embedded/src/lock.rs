//! A file lock that the kernel frees with its process, and that names the process which holds it.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// The lock of a killed process lives on for a moment in a child that the process had forked and that has not run its program yet.
const PATIENCE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// A lock that this process holds; dropping it frees it.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file would leave the lock to children that this process has just forked.
        let _ = self.file.unlock();
    }
}

/// The result of an attempt to take a lock.
#[derive(Debug)]
pub(super) enum Attempt {
    Acquired(FileLock),
    /// Another process holds it; its id, when it could be read.
    Held(Option<u32>),
}

/// Takes the lock at `path`, waiting up to a second.
pub(super) async fn acquire(path: &Path) -> io::Result<Attempt> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_acquire(path)? {
            Attempt::Held(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            attempt => return Ok(attempt),
        }
    }
}

fn try_acquire(path: &Path) -> io::Result<Attempt> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            let mut lock = FileLock { file };
            lock.file.set_len(0)?;
            lock.file.rewind()?;
            writeln!(lock.file, "{}", std::process::id())?;
            Ok(Attempt::Acquired(lock))
        }
        Err(TryLockError::WouldBlock) => Ok(Attempt::Held(pid_in(&mut file)?)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The process that holds the lock at `path`: `None` when it is free, `Some(None)` when its id could not be read.
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
    async fn acquire_of_held_lock_names_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(holder(&path).unwrap(), None);
        let first = acquire(&path).await.unwrap();
        assert!(matches!(first, Attempt::Acquired(_)));
        assert!(matches!(acquire(&path).await.unwrap(), Attempt::Held(Some(pid)) if pid == std::process::id()));
        assert_eq!(holder(&path).unwrap(), Some(Some(std::process::id())));
        drop(first);
        assert_eq!(holder(&path).unwrap(), None);
        assert!(matches!(acquire(&path).await.unwrap(), Attempt::Acquired(_)));
    }

    /// Regression: a file lock stayed with a child that had just been forked.
    #[tokio::test]
    async fn dropped_lock_is_free_despite_forked_child() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let Attempt::Acquired(lock) = acquire(&path).await.unwrap() else { panic!("the lock is held") };
        // What fork does to the descriptors of a process.
        let _of_the_child = lock.file.try_clone().unwrap();
        drop(lock);
        assert_eq!(holder(&path).unwrap(), None);
        assert!(matches!(try_acquire(&path).unwrap(), Attempt::Acquired(_)));
    }
}
