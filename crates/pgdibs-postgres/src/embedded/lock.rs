//! A file lock that ends with its process, and says which process has it.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Held as long as it lives; the kernel frees it when the process dies in whatever way.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

/// What came of an attempt to take a lock.
#[derive(Debug)]
pub(super) enum Taken {
    Ours(FileLock),
    /// Somebody else's, with the process id it wrote down.
    Others(Option<u32>),
}

/// Takes the lock at `path` or says who has it; never waits.
pub(super) fn take(path: &Path) -> io::Result<Taken> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            Ok(Taken::Ours(FileLock { _file: file }))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Taken::Others(text.trim().parse().ok()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Who holds the lock at `path` now: `None` when nobody does. Must not be asked while the owner-to-be may be taking it.
pub(super) fn holder(path: &Path) -> io::Result<Option<Option<u32>>> {
    let mut file = match File::options().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Some(text.trim().parse().ok()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_learns_the_first_ones_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(holder(&path).unwrap(), None);
        let first = take(&path).unwrap();
        assert!(matches!(first, Taken::Ours(_)));
        assert!(matches!(take(&path).unwrap(), Taken::Others(Some(pid)) if pid == std::process::id()));
        assert_eq!(holder(&path).unwrap(), Some(Some(std::process::id())));
        drop(first);
        assert_eq!(holder(&path).unwrap(), None);
        assert!(matches!(take(&path).unwrap(), Taken::Ours(_)));
    }
}
