//! The errors of the embedded server, each a sentence with what is wrong, the rule and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why the embedded server could not be found, created, started, adopted or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No directory of the search has Postgres server binaries.
    #[error(
        "No PostgreSQL server binaries (14 to 18) were found on this machine: {install}, or name their directory with --pg-bin-dir."
    )]
    NoBinaries {
        /// The install command for this system, as an instruction.
        install: String,
    },
    /// The path of the running program, which becomes the server's supervisor, cannot be determined.
    #[error("Cannot determine the path of this program, which runs as the supervisor of the embedded server: {0}.")]
    OwnProgram(#[source] io::Error),
    /// The configured directory has no server binaries.
    #[error(
        "The directory {} given as --pg-bin-dir has no {missing}; it must hold PostgreSQL's `initdb` and `postgres`.", dir.display()
    )]
    BinDirLacks {
        /// The directory.
        dir: PathBuf,
        /// The missing program.
        missing: &'static str,
    },
    /// The server binary does not run, or prints no version that pgdibs can parse.
    #[error("{} cannot be used as a PostgreSQL server: {detail}.", program.display())]
    UnusableBinary {
        /// The program.
        program: PathBuf,
        /// The reason.
        detail: String,
    },
    /// The server is older than pgdibs supports.
    #[error("{} has PostgreSQL {major}, but pgdibs needs PostgreSQL 14 or newer: name another directory with --pg-bin-dir.", dir.display())]
    TooOld {
        /// The directory of the binaries.
        dir: PathBuf,
        /// Its major version.
        major: u32,
    },
    /// A Postgres major version that is not installed created the data directory.
    #[error(
        "PostgreSQL {created_by} created the data directory {}, but the binaries found are of PostgreSQL {found}: install PostgreSQL {created_by} or name its binaries with --pg-bin-dir, or remove that directory to start with an empty server.",
        data_dir.display()
    )]
    WrongMajor {
        /// The data directory.
        data_dir: PathBuf,
        /// The major version in its `PG_VERSION`.
        created_by: u32,
        /// The versions found, such as `15 and 17`.
        found: String,
    },
    /// This process is root, and the system has no user to run Postgres as.
    #[error(
        "PostgreSQL refuses to run as root, and this system has neither a user `postgres` nor a user `nobody`: create one of them, or start pgdibs as an ordinary user."
    )]
    NoUnprivilegedUser,
    /// This process is root, and the user that Postgres runs as cannot reach a directory.
    #[error(
        "PostgreSQL runs as user `{user}`, who has no search permission on {}: {remedy}.", blocked_at.display()
    )]
    Unreachable {
        /// The user Postgres runs as.
        user: String,
        /// The directory without search permission.
        blocked_at: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// No data directory is configured, and pgdibs can choose none.
    #[error(
        "No directory for the embedded server's data: /dev/shm has less than 1 GiB free and neither XDG_CACHE_HOME nor HOME is set; name a directory with --data-dir (PGDIBS_DATA_DIR)."
    )]
    NoPlace,
    /// The data directory is not empty, and no data directory of pgdibs.
    #[error(
        "The data directory {} is not empty, and pgdibs did not create it, so pgdibs changes nothing in it: name an empty or new directory with --data-dir (PGDIBS_DATA_DIR).", dir.display()
    )]
    ForeignDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// A directory belongs to another user.
    #[error(
        "The directory {} belongs to user id {owner}, not to the user that runs pgdibs: remove it, or name another directory with --data-dir (PGDIBS_DATA_DIR).", dir.display()
    )]
    ForeignOwner {
        /// The directory.
        dir: PathBuf,
        /// The id of its owner.
        owner: u32,
    },
    /// Another daemon uses the data directory.
    #[error(
        "Another pgdibs daemon ({}) uses the data directory {}: stop it, or name another directory with --data-dir (PGDIBS_DATA_DIR).",
        process(*pid), data_dir.display()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// That daemon's process id, when it could be read.
        pid: Option<u32>,
    },
    /// Live leases may carry the port, and another process listens on it.
    #[error(
        "Another process listens on port {port} of the server in {}, and live leases may carry that port: stop that process, or remove the directory to start with an empty server.", data_dir.display()
    )]
    PortTaken {
        /// The port of this data directory.
        port: u16,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The superuser's password is missing or wrong.
    #[error(
        "The superuser's password in {} is {what}, and the daemon cannot manage the server without it: remove the directory {} to start with an empty server.",
        file.display(), data_dir.display()
    )]
    Password {
        /// The password file.
        file: PathBuf,
        /// `missing` or `refused by the server`.
        what: &'static str,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// `initdb` failed or took too long.
    #[error("initdb could not create a server in {}: {detail}", dir.display())]
    InitDb {
        /// The data directory.
        dir: PathBuf,
        /// The last lines of its output.
        detail: String,
    },
    /// Postgres exited, or did not become ready in time.
    #[error("PostgreSQL in {} did not start: {status}. The last lines of {}:\n{log}", data_dir.display(), log_file.display())]
    NotStarted {
        /// The data directory.
        data_dir: PathBuf,
        /// The last known status.
        status: String,
        /// The server's log.
        log_file: PathBuf,
        /// Its last lines.
        log: String,
    },
    /// Processes of an earlier server or its supervisor do not exit.
    #[error("An earlier server in {} does not exit ({status}): kill these processes and start again.", data_dir.display())]
    StillRunning {
        /// The data directory.
        data_dir: PathBuf,
        /// The processes, as far as known.
        status: String,
    },
    /// A file or process operation failed.
    #[error("Could not {action}: {source}.")]
    Io {
        /// The operation, with the path.
        action: String,
        /// The operating system's reason.
        source: io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "process id unknown".to_owned(), |pid| format!("process {pid}"))
}

/// Adds the operation and the path to an [`io::Error`].
pub(super) trait IoContext<T> {
    /// The message is "Could not {verb} {path}".
    fn context(self, verb: &str, path: &Path) -> Result<T, EmbeddedError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, verb: &str, path: &Path) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { action: format!("{verb} {}", path.display()), source })
    }
}
