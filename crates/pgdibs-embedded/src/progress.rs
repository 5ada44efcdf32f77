//! The stages of a start of the embedded server, for the log and for `/readyz`.

use std::fmt;
use std::path::PathBuf;

/// One stage or event of a start. Its `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// No data directory is configured, and this one was chosen.
    Chosen {
        /// The directory and the reason, as a sentence.
        why: String,
    },
    /// The start searches for a running server, then for server binaries.
    Finding,
    /// The start took over the running server of an earlier daemon.
    Adopted,
    /// A server whose supervisor had died was stopped, to be started under a new one.
    OrphanStopped {
        /// Its process id.
        pid: i32,
    },
    /// The existing cluster is unusable and is replaced by an empty one.
    Recreated {
        /// The reason, as a sentence.
        why: String,
    },
    /// `initdb` runs.
    InitDb {
        /// The data directory.
        data_dir: PathBuf,
        /// The major version.
        major: u32,
    },
    /// Another process listens on the old port, or another port is configured; no lease carried the old one.
    PortChanged {
        /// The old port.
        from: u16,
        /// The new port.
        to: u16,
    },
    /// Postgres was started and does not accept connections yet.
    Starting {
        /// The port.
        port: u16,
    },
    /// Postgres accepts connections.
    Ready {
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen { why } | Self::Recreated { why } => out.write_str(why),
            Self::Finding => out.write_str("Searching for a PostgreSQL server."),
            Self::Adopted => out.write_str("Adopted the PostgreSQL server that an earlier daemon left running."),
            Self::OrphanStopped { pid } => {
                write!(out, "Stopped the PostgreSQL server (process {pid}) whose supervisor had died.")
            }
            Self::InitDb { data_dir, major } => {
                write!(out, "Creating a PostgreSQL {major} server in {}.", data_dir.display())
            }
            Self::PortChanged { from, to } => {
                write!(
                    out,
                    "The embedded server moves from port {from}, which is taken or no longer configured, to port {to}."
                )
            }
            Self::Starting { port } => write!(out, "Starting PostgreSQL on port {port}."),
            Self::Ready { port } => write!(out, "PostgreSQL accepts connections on 127.0.0.1:{port}."),
        }
    }
}
