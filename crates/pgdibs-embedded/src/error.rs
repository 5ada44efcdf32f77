//! What can go wrong with the embedded server, as sentences that name the thing, the rule and the way out.

use std::io;
use std::path::{Path, PathBuf};

/// Why the embedded server could not be found, made, started, adopted or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No Postgres server binaries anywhere we look.
    #[error(
        "No PostgreSQL server binaries (14 to 18) were found on this machine: {install}, or name their directory with --pg-bin-dir."
    )]
    NoBinaries {
        /// The install command for this system, as an instruction.
        install: String,
    },
    /// The running program, which becomes the server's supervisor, cannot be found.
    #[error("Cannot find the program that is running, which becomes the supervisor of the embedded server: {0}.")]
    OwnProgram(#[source] io::Error),
    /// The directory given explicitly is not one of server binaries.
    #[error(
        "The directory {} given as --pg-bin-dir has no {missing}; it must hold PostgreSQL's `initdb` and `postgres`.", dir.display()
    )]
    BinDirLacks {
        /// The directory as given.
        dir: PathBuf,
        /// The program that is not there.
        missing: &'static str,
    },
    /// The server binary does not run or does not say a version we can read.
    #[error("{} cannot be used as a PostgreSQL server: {detail}.", program.display())]
    UnusableBinary {
        /// The program that was asked for its version.
        program: PathBuf,
        /// What happened.
        detail: String,
    },
    /// The server is older or newer than what pgdibs knows.
    #[error("{} is PostgreSQL {major}, and pgdibs needs PostgreSQL 14 or newer: name another directory with --pg-bin-dir.", dir.display())]
    TooOld {
        /// The directory of the binaries.
        dir: PathBuf,
        /// Its major version.
        major: u32,
    },
    /// The data directory was made by a Postgres major version that is not installed.
    #[error(
        "The data directory {} was made by PostgreSQL {made_by}, and the binaries found are of PostgreSQL {found}: install PostgreSQL {made_by} or name its binaries with --pg-bin-dir, or remove that directory to begin with an empty server.",
        data_dir.display()
    )]
    WrongMajor {
        /// Our data directory.
        data_dir: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: u32,
        /// What was found instead, such as `15 and 17`.
        found: String,
    },
    /// We are root and there is no user to run Postgres as.
    #[error(
        "PostgreSQL refuses to run as root, and this system has neither a user `postgres` nor a user `nobody`: create one of them, or start pgdibs as an ordinary user."
    )]
    NoUnprivilegedUser,
    /// We are root, and the unprivileged user cannot reach a directory.
    #[error(
        "PostgreSQL runs here as user `{user}`, who may not pass through {}: {remedy}.", blocked_at.display()
    )]
    Unreachable {
        /// The user Postgres runs as.
        user: String,
        /// The directory that shuts the user out.
        blocked_at: PathBuf,
        /// What to do instead.
        remedy: String,
    },
    /// Neither a configured directory nor a place to put one.
    #[error(
        "There is no place for the embedded server's data: /dev/shm has less than 1 GiB free and neither XDG_CACHE_HOME nor HOME is set; name a directory with --data-dir (PGDIBS_DATA_DIR)."
    )]
    NoPlace,
    /// The data directory holds something that is not ours.
    #[error(
        "The data directory {} is not empty and was not made by pgdibs, so nothing in it is touched: name an empty or a new directory with --data-dir (PGDIBS_DATA_DIR).", dir.display()
    )]
    ForeignDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// A directory whose name anybody can guess belongs to somebody else.
    #[error(
        "The directory {} belongs to user id {owner}, not to us, and is not used: remove it, or name another directory with --data-dir (PGDIBS_DATA_DIR).", dir.display()
    )]
    ForeignOwner {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Another daemon has the data directory.
    #[error(
        "Another pgdibs daemon ({}) is using the data directory {}: stop it, or give this one a directory of its own with --data-dir (PGDIBS_DATA_DIR).",
        process(*pid), data_dir.display()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The other daemon's process id, when it could be read.
        pid: Option<u32>,
    },
    /// Leases may still carry the port, and somebody else listens there.
    #[error(
        "Port {port} belongs to the server in {} and live leases may carry it, but another process listens there now: stop that process, or remove the directory to begin with an empty server.", data_dir.display()
    )]
    PortTaken {
        /// The port written down for this data directory.
        port: u16,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The superuser's password is lost or no longer the right one.
    #[error(
        "The password in {} is {what}, and without it nobody can administer this server: remove the directory {} to begin with an empty one.",
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
    #[error("initdb could not make a server in {}: {detail}", dir.display())]
    InitDb {
        /// Where it was to be made.
        dir: PathBuf,
        /// The last lines of its output.
        detail: String,
    },
    /// Postgres ended, or did not become ready in time.
    #[error("PostgreSQL in {} did not start: {status}. The end of {}:\n{log}", data_dir.display(), log_file.display())]
    NotStarted {
        /// The data directory.
        data_dir: PathBuf,
        /// The last thing known of it.
        status: String,
        /// The server's log.
        log_file: PathBuf,
        /// Its last lines.
        log: String,
    },
    /// Processes of an earlier server or supervisor do not go away.
    #[error("An earlier server in {} does not end ({status}): end it by hand and start again.", data_dir.display())]
    Lingering {
        /// The data directory.
        data_dir: PathBuf,
        /// Who it is, as far as known.
        status: String,
    },
    /// A file or process operation failed.
    #[error("Could not {action}: {source}.")]
    Io {
        /// What was being done, with the path.
        action: String,
        /// The operating system's answer.
        source: io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "process id unknown".to_owned(), |pid| format!("process {pid}"))
}

/// Turns an [`io::Error`] into a sentence with what was being done to which path.
pub(super) trait WhileDoing<T> {
    /// `verb` reads on as in "Could not {verb} {path}".
    fn while_doing(self, verb: &str, path: &Path) -> Result<T, EmbeddedError>;
}

impl<T> WhileDoing<T> for io::Result<T> {
    fn while_doing(self, verb: &str, path: &Path) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { action: format!("{verb} {}", path.display()), source })
    }
}
