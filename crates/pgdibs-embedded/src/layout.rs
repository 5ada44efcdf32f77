//! The data directory: its files by name, whose they are, and how we know that it is ours.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{EmbeddedError, WhileDoing};
use super::os_user::{self, OsUser};

/// Its presence says that a directory is ours; it is the first thing we write into one.
const MARKER: &str = "pgdibs-data-directory";
/// The boot under which the server was started and since when it has not been stopped in order.
const RUNNING: &str = "running-since-boot";
/// What `sockaddr_un` holds on macOS, the smaller one (Linux: 107), without the closing zero.
const LONGEST_SOCKET_PATH: usize = 103;
/// The longest name of a socket of ours below the directory that holds them.
const LONGEST_SOCKET_NAME: &str = "socket/.s.PGSQL.65535";

/// The paths of one data directory. Both the daemon and the supervisor derive them from the directory alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    data_dir: PathBuf,
    sockets: PathBuf,
}

impl Layout {
    /// The layout of an existing directory.
    pub(super) fn of(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let data_dir = data_dir.canonicalize().while_doing("find", data_dir)?;
        let fits = data_dir.as_os_str().len() + 1 + LONGEST_SOCKET_NAME.len() <= LONGEST_SOCKET_PATH;
        let sockets = if fits { data_dir.clone() } else { short_place(&data_dir) };
        Ok(Self { data_dir, sockets })
    }

    /// Makes `data_dir` ours if it is new or empty, and refuses it if it is somebody else's. Nothing is ever removed.
    pub(super) fn claim(data_dir: &Path, os_user: Option<&OsUser>) -> Result<Self, EmbeddedError> {
        make_dir(data_dir)?;
        let owner = std::fs::metadata(data_dir).while_doing("look at", data_dir)?.uid();
        if owner != os_user::own_uid() {
            return Err(EmbeddedError::ForeignOwner { dir: data_dir.to_owned(), owner });
        }
        if !Self::is_marked(data_dir) {
            let entries = std::fs::read_dir(data_dir).while_doing("read", data_dir)?;
            // The root of a fresh file system is empty but for this.
            let foreign = entries.flatten().any(|entry| entry.file_name() != "lost+found");
            // Looked at again: another daemon may have claimed it in between, which its lock will tell.
            if foreign && !Self::is_marked(data_dir) {
                return Err(EmbeddedError::ForeignDirectory { dir: data_dir.to_owned() });
            }
            let text = "This directory belongs to pgdibs: its embedded PostgreSQL server. It may be removed when no pgdibs runs.\n";
            let marker = data_dir.join(MARKER);
            std::fs::write(&marker, text).while_doing("write", &marker)?;
        }
        let layout = Self::of(data_dir)?;
        // The server's user must pass through to its own directories, and sees nothing else.
        let passable = if os_user.is_some() { 0o711 } else { 0o700 };
        set_mode(&layout.data_dir, passable)?;
        if layout.sockets != layout.data_dir {
            claim_short_place(&layout.sockets)?;
            set_mode(&layout.sockets, passable)?;
        }
        os_user::check_reachable(
            &layout.data_dir,
            os_user,
            "name a data directory elsewhere with --data-dir (PGDIBS_DATA_DIR), or open that one for passing (chmod o+x)",
        )?;
        make_dir(&layout.socket_dir())?;
        os_user::hand_over(&layout.socket_dir(), os_user)?;
        set_mode(&layout.socket_dir(), 0o700)?;
        Ok(layout)
    }

    /// Whether we made this directory.
    pub(super) fn is_marked(data_dir: &Path) -> bool {
        data_dir.join(MARKER).is_file()
    }

    /// Whether its server runs or ended without being stopped: leases may live there.
    pub(super) fn has_unfinished_business(data_dir: &Path) -> bool {
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

    /// The major version the cluster was made by; `None` when there is no cluster.
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

/// Writes a small file so that it is there with all its content and its mode, or not at all.
pub(super) fn write_whole(path: &Path, content: &str, mode: u32) -> Result<(), EmbeddedError> {
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
    written.while_doing("write", path)
}

/// Makes a directory and its parents for ourselves alone, unless it is there.
fn make_dir(dir: &Path) -> Result<(), EmbeddedError> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).while_doing("make", parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).while_doing("make", dir),
        _ => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), EmbeddedError> {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).while_doing("set the mode of", path)
}

/// A short stand-in for sockets whose own directory lies too deep for a socket's path.
fn short_place(data_dir: &Path) -> PathBuf {
    let digest = Sha256::digest(data_dir.as_os_str().as_bytes());
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from("/tmp").join(format!("pgdibs-{hash}"))
}

/// `/tmp` is everybody's and the name can be guessed, so a directory (or a link) of somebody else's is refused.
fn claim_short_place(dir: &Path) -> Result<(), EmbeddedError> {
    make_dir(dir)?;
    let metadata = std::fs::symlink_metadata(dir).while_doing("look at", dir)?;
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
    fn a_new_directory_is_claimed_once_and_stays_ours() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        let layout = Layout::claim(&data_dir, None).unwrap();
        assert_eq!((mode(&data_dir), mode(&layout.socket_dir())), (0o700, 0o700));
        std::fs::write(data_dir.join("something"), "more").unwrap();
        assert_eq!(Layout::claim(&data_dir, None).unwrap(), layout);
    }

    #[test]
    fn a_directory_of_others_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        let sentence = Layout::claim(dir.path(), None).unwrap_err().to_string();
        assert!(sentence.contains(&dir.path().display().to_string()), "{sentence}");
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["thesis.txt"]);
    }

    #[test]
    fn a_deep_directory_has_its_sockets_elsewhere_for_ourselves_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::claim(&dir.path().join("deep/".repeat(20)), None).unwrap();
        let socket = layout.socket_dir().join(".s.PGSQL.65535");
        assert!(socket.as_os_str().len() <= LONGEST_SOCKET_PATH, "{socket:?}");
        assert!(layout.control_socket().as_os_str().len() <= LONGEST_SOCKET_PATH);
        assert_eq!(mode(&layout.socket_dir()), 0o700);
        std::fs::remove_dir_all(layout.socket_dir().parent().unwrap()).unwrap();
    }

    #[test]
    fn a_planted_link_in_tmp_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(matches!(claim_short_place(&link), Err(EmbeddedError::ForeignOwner { .. })));
    }

    #[test]
    fn whole_files_have_their_mode_and_replace_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_whole(&path, "one", 0o600).unwrap();
        write_whole(&path, "two", 0o600).unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("two", 0o600));
    }
}
