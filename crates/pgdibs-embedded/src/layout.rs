//! The data directory: the names, owners and modes of its files, and the marker by which pgdibs recognises it.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{EmbeddedError, IoContext};
use super::os_user::{self, OsUser};

/// The file that marks a data directory of pgdibs; the first one written into it.
const MARKER: &str = "pgdibs-data-directory";
/// The file that exists from a start of the server until its orderly stop, with the id of the machine's boot.
const RUNNING: &str = "running-since-boot";
/// The capacity of `sockaddr_un` without the terminating zero: 103 on macOS, 107 on Linux.
const MAX_SOCKET_PATH_BYTES: usize = 103;
/// The longest path of a socket below the directory of the sockets.
const LONGEST_SOCKET_NAME: &str = "socket/.s.PGSQL.65535";

/// The paths of one data directory. The daemon and the supervisor derive them from the directory alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    data_dir: PathBuf,
    sockets: PathBuf,
}

impl Layout {
    /// The layout of an existing directory.
    pub(super) fn of(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let data_dir = data_dir.canonicalize().context("find", data_dir)?;
        let fits = data_dir.as_os_str().len() + 1 + LONGEST_SOCKET_NAME.len() <= MAX_SOCKET_PATH_BYTES;
        let sockets = if fits { data_dir.clone() } else { short_socket_dir(&data_dir) };
        Ok(Self { data_dir, sockets })
    }

    /// Creates `data_dir`, or marks it if it is empty, and refuses any other directory that is not marked. It never deletes anything.
    pub(super) fn claim(data_dir: &Path, os_user: Option<&OsUser>) -> Result<Self, EmbeddedError> {
        create_dir(data_dir)?;
        let owner = std::fs::metadata(data_dir).context("inspect", data_dir)?.uid();
        if owner != os_user::own_uid() {
            return Err(EmbeddedError::ForeignOwner { dir: data_dir.to_owned(), owner });
        }
        if !Self::is_marked(data_dir) {
            let entries = std::fs::read_dir(data_dir).context("read", data_dir)?;
            // The root of a new file system has only this entry.
            let foreign = entries.flatten().any(|entry| entry.file_name() != "lost+found");
            // Checked again: another daemon may have claimed it since; its lock decides.
            if foreign && !Self::is_marked(data_dir) {
                return Err(EmbeddedError::ForeignDirectory { dir: data_dir.to_owned() });
            }
            let text = "This directory belongs to pgdibs: its embedded PostgreSQL server. It may be removed when no pgdibs runs.\n";
            let marker = data_dir.join(MARKER);
            std::fs::write(&marker, text).context("write", &marker)?;
        }
        let layout = Self::of(data_dir)?;
        // The server's user needs search permission to reach its own directories, and no other.
        let mode = if os_user.is_some() { 0o711 } else { 0o700 };
        set_mode(&layout.data_dir, mode)?;
        if layout.sockets != layout.data_dir {
            claim_socket_dir(&layout.sockets)?;
            set_mode(&layout.sockets, mode)?;
        }
        os_user::check_reachable(
            &layout.data_dir,
            os_user,
            "name another data directory with --data-dir (PGDIBS_DATA_DIR), or give that one search permission (chmod o+x)",
        )?;
        create_dir(&layout.socket_dir())?;
        os_user::give_to(&layout.socket_dir(), os_user)?;
        set_mode(&layout.socket_dir(), 0o700)?;
        Ok(layout)
    }

    /// Whether this is a data directory of pgdibs.
    pub(super) fn is_marked(data_dir: &Path) -> bool {
        data_dir.join(MARKER).is_file()
    }

    /// Whether its server runs, or exited without an orderly stop: leases may live there.
    pub(super) fn was_left_running(data_dir: &Path) -> bool {
        data_dir.join(RUNNING).is_file()
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }
    pub(super) fn pgdata(&self) -> PathBuf {
        self.data_dir.join("pgdata")
    }
    pub(super) fn socket_dir(&self) -> PathBuf {
        self.sockets.join("socket")
    }
    pub(super) fn control_socket(&self) -> PathBuf {
        self.sockets.join("control.sock")
    }
    pub(super) fn password_file(&self) -> PathBuf {
        self.data_dir.join("superuser-password")
    }
    pub(super) fn port_file(&self) -> PathBuf {
        self.data_dir.join("port")
    }
    pub(super) fn running_file(&self) -> PathBuf {
        self.data_dir.join(RUNNING)
    }
    pub(super) fn log_file(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }
    pub(super) fn daemon_lock(&self) -> PathBuf {
        self.data_dir.join("daemon.lock")
    }
    pub(super) fn supervisor_lock(&self) -> PathBuf {
        self.data_dir.join("supervisor.lock")
    }
    pub(super) fn postmaster_pid_file(&self) -> PathBuf {
        self.pgdata().join("postmaster.pid")
    }

    /// The major version of the cluster; `None` when there is no cluster.
    pub(super) fn cluster_major(&self) -> Option<u32> {
        std::fs::read_to_string(self.pgdata().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// The last `lines` lines of the server's log.
    pub(super) fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Writes a file with this mode by a rename, so that no reader sees a part of it.
pub(super) fn write_atomically(path: &Path, content: &str, mode: u32) -> Result<(), EmbeddedError> {
    let beside = path.with_extension("new");
    let written = (|| -> io::Result<()> {
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    written.context("write", path)
}

/// Creates a directory that only this user may access, and its parents, unless it exists.
fn create_dir(dir: &Path) -> Result<(), EmbeddedError> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).context("create", parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).context("create", dir),
        _ => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), EmbeddedError> {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).context("set the mode of", path)
}

/// The directory of the sockets when the path of the data directory is too long for a socket's path.
fn short_socket_dir(data_dir: &Path) -> PathBuf {
    let digest = Sha256::digest(data_dir.as_os_str().as_bytes());
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from("/tmp").join(format!("pgdibs-{hash}"))
}

/// Every user may write to `/tmp` and can guess the name, so a link or a directory of another user is refused.
fn claim_socket_dir(dir: &Path) -> Result<(), EmbeddedError> {
    create_dir(dir)?;
    let metadata = std::fs::symlink_metadata(dir).context("inspect", dir)?;
    if !metadata.is_dir() || metadata.uid() != os_user::own_uid() {
        return Err(EmbeddedError::ForeignOwner { dir: dir.to_owned(), owner: metadata.uid() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn claim_marks_new_directory_and_accepts_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        let layout = Layout::claim(&data_dir, None).unwrap();
        assert_eq!((mode(&data_dir), mode(&layout.socket_dir())), (0o700, 0o700));
        std::fs::write(data_dir.join("something"), "more").unwrap();
        assert_eq!(Layout::claim(&data_dir, None).unwrap(), layout);
    }

    #[test]
    fn claim_refuses_foreign_directory_untouched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        let message = Layout::claim(dir.path(), None).unwrap_err().to_string();
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["thesis.txt"]);
    }

    #[test]
    fn claim_of_deep_directory_puts_private_sockets_in_tmp() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::claim(&dir.path().join("deep/".repeat(20)), None).unwrap();
        let socket = layout.socket_dir().join(".s.PGSQL.65535");
        assert!(socket.as_os_str().len() <= MAX_SOCKET_PATH_BYTES, "{socket:?}");
        assert!(layout.control_socket().as_os_str().len() <= MAX_SOCKET_PATH_BYTES);
        assert_eq!(mode(&layout.socket_dir()), 0o700);
        std::fs::remove_dir_all(layout.socket_dir().parent().unwrap()).unwrap();
    }

    #[test]
    fn claim_socket_dir_refuses_planted_link() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(matches!(claim_socket_dir(&link), Err(EmbeddedError::ForeignOwner { .. })));
    }

    #[test]
    fn write_atomically_sets_mode_and_replaces_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_atomically(&path, "one", 0o600).unwrap();
        write_atomically(&path, "two", 0o600).unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("two", 0o600));
    }
}
