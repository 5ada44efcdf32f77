//! Chooses the data directory when none is configured: in memory when it has 1 GiB free, otherwise the cache directory.

use std::path::{Path, PathBuf};

use super::error::EmbeddedError;
use super::layout::Layout;

/// Enough for a few dozen databases of 13 MB and their WAL; Postgres stops when the disk is full.
const MIN_FREE_BYTES: u64 = 1 << 30;

/// The inputs of the choice, so that tests can set their own.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    pub(super) memory: PathBuf,
    pub(super) system_cache: PathBuf,
    pub(super) xdg_cache_home: Option<PathBuf>,
    pub(super) home: Option<PathBuf>,
    pub(super) uid: u32,
}

impl Environment {
    pub(super) fn of_this_process() -> Self {
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            memory: PathBuf::from("/dev/shm"),
            system_cache: PathBuf::from("/var/cache"),
            xdg_cache_home: variable("XDG_CACHE_HOME"),
            home: variable("HOME"),
            uid: super::os_user::own_uid(),
        }
    }

    /// The directory, and the reason as a sentence.
    pub(super) fn choose(&self) -> Result<(PathBuf, String), EmbeddedError> {
        let in_memory = self.memory.join(format!("pgdibs-{}", self.uid));
        let cached = self.cache_dir();
        let because = |dir: &Path, why: &str| format!("The embedded server's data is in {} ({why}).", dir.display());

        // A choice stays, however much memory is free later: leases may live on the server that is there.
        if Layout::is_marked(&in_memory) {
            let why = because(&in_memory, "in memory, where it was before");
            return Ok((in_memory, why));
        }
        if let Some(cached) = cached.clone()
            && Layout::is_marked(&cached)
            && Layout::was_left_running(&cached)
        {
            let why = because(&cached, "where its server is running or ran last");
            return Ok((cached, why));
        }
        let free = free_bytes(&self.memory).unwrap_or(0);
        if free >= MIN_FREE_BYTES {
            let why = because(&in_memory, &format!("in memory, {} MiB free", free >> 20));
            return Ok((in_memory, why));
        }
        let Some(cached) = cached else {
            return Err(EmbeddedError::NoPlace);
        };
        let why = format!("on disk: {} has {} MiB free, less than 1 GiB", self.memory.display(), free >> 20);
        let why = because(&cached, &why);
        Ok((cached, why))
    }

    /// The user that Postgres runs as cannot reach root's home, so root uses the system's cache.
    fn cache_dir(&self) -> Option<PathBuf> {
        if self.uid == 0 {
            return Some(self.system_cache.join("pgdibs"));
        }
        let base = self.xdg_cache_home.clone().or_else(|| self.home.as_ref().map(|home| home.join(".cache")))?;
        Some(base.join("pgdibs"))
    }
}

/// The free bytes of the file system that holds `dir`, for an unprivileged user; `None` when there is no such directory.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    #[allow(clippy::useless_conversion, reason = "the types differ between Linux and macOS")]
    let (blocks, size) = (u64::from(stat.blocks_available()), u64::from(stat.fragment_size()));
    Some(blocks.saturating_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(dir: &Path, uid: u32) -> Environment {
        Environment {
            memory: dir.join("no-such-memory"),
            system_cache: dir.join("var-cache"),
            xdg_cache_home: None,
            home: Some(dir.join("home")),
            uid,
        }
    }

    #[test]
    fn choose_takes_memory_with_room_otherwise_cache() {
        let dir = tempfile::tempdir().unwrap();
        let mut choice = environment(dir.path(), 1000);
        let (chosen, why) = choice.choose().unwrap();
        assert_eq!(chosen, dir.path().join("home/.cache/pgdibs"));
        assert!(why.contains("less than 1 GiB"), "{why}");
        choice.xdg_cache_home = Some(dir.path().join("xdg"));
        assert_eq!(choice.choose().unwrap().0, dir.path().join("xdg/pgdibs"));
        choice.memory = dir.path().to_owned();
        assert!(free_bytes(dir.path()).unwrap() > MIN_FREE_BYTES, "this test needs 1 GiB free in {:?}", dir.path());
        assert_eq!(choice.choose().unwrap().0, dir.path().join("pgdibs-1000"));
    }

    #[test]
    fn choose_takes_system_cache_for_root_and_needs_home() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(environment(dir.path(), 0).choose().unwrap().0, dir.path().join("var-cache/pgdibs"));
        let mut homeless = environment(dir.path(), 1000);
        homeless.home = None;
        assert!(homeless.choose().unwrap_err().to_string().contains("--data-dir"));
    }

    #[test]
    fn choose_stays_in_cache_while_server_may_have_leases() {
        let dir = tempfile::tempdir().unwrap();
        let mut choice = environment(dir.path(), 1000);
        let cached = choice.choose().unwrap().0;
        Layout::claim(&cached, None).unwrap();
        choice.memory = dir.path().to_owned();
        assert_eq!(choice.choose().unwrap().0, dir.path().join("pgdibs-1000"));
        std::fs::write(cached.join("running-since-boot"), "some boot").unwrap();
        assert_eq!(choice.choose().unwrap().0, cached);
    }
}
