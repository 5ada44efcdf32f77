//! The OS user that Postgres runs as: Postgres refuses to run as root, so root starts it as an unprivileged user.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::error::{EmbeddedError, IoContext};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsUser {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The effective user id of this process.
pub(super) fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The user that Postgres runs as; `None` when this process is not root, and Postgres runs as its user.
pub fn for_server() -> Result<Option<OsUser>, EmbeddedError> {
    if own_uid() != 0 {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = nix::unistd::User::from_name(name) {
            return Ok(Some(OsUser { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
        }
    }
    Err(EmbeddedError::NoUnprivilegedUser)
}

/// Makes `command` run as `os_user`. When root sets the user id, std drops the supplementary groups too.
pub fn run_as(command: &mut Command, os_user: Option<&OsUser>) {
    if let Some(os_user) = os_user {
        command.uid(os_user.uid).gid(os_user.gid);
    }
}

/// Makes `os_user` the owner of `path`.
pub fn give_to(path: &Path, os_user: Option<&OsUser>) -> Result<(), EmbeddedError> {
    match os_user {
        None => Ok(()),
        Some(os_user) => {
            std::os::unix::fs::chown(path, Some(os_user.uid), Some(os_user.gid)).context("change the owner of", path)
        }
    }
}

/// Refuses a directory that `os_user` cannot reach; the error names the first parent without search permission.
pub(super) fn check_reachable(dir: &Path, os_user: Option<&OsUser>, remedy: &str) -> Result<(), EmbeddedError> {
    let Some(os_user) = os_user else {
        return Ok(());
    };
    let mut ancestors: Vec<&Path> = dir.ancestors().collect();
    ancestors.reverse();
    for ancestor in ancestors {
        let metadata = std::fs::metadata(ancestor).context("inspect", ancestor)?;
        let needed = if metadata.uid() == os_user.uid {
            0o100
        } else if metadata.gid() == os_user.gid {
            0o010
        } else {
            0o001
        };
        if metadata.mode() & needed == 0 {
            return Err(EmbeddedError::Unreachable {
                user: os_user.name.clone(),
                blocked_at: ancestor.to_owned(),
                remedy: remedy.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn check_reachable_names_parent_without_permission() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        let inner = closed.join("inner");
        std::fs::create_dir_all(&inner).unwrap();
        for (path, mode) in [(dir.path(), 0o711), (closed.as_path(), 0o700)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let stranger = OsUser { name: "stranger".to_owned(), uid: 4_000_001, gid: 4_000_001 };
        let message = check_reachable(&inner, Some(&stranger), "move it").unwrap_err().to_string();
        assert!(message.contains(&closed.display().to_string()) && message.contains("`stranger`"), "{message}");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).unwrap();
        check_reachable(&closed, Some(&stranger), "move it").unwrap();
    }
}
