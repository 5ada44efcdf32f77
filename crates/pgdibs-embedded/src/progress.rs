//! What the embedded server is doing while it comes up, for the log and for `/readyz`.

use std::fmt;
use std::path::PathBuf;

/// One stage or event on the way to a server that serves. Its `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// No data directory was configured and this one was chosen.
    Chosen {
        /// Which and why, as a sentence.
        why: String,
    },
    /// Looking for a server that runs already, then for binaries.
    Finding,
    /// A server whose daemon is gone was found and is ours now.
    Adopted,
    /// A server had lost its supervisor and was stopped, to be started under a new one.
    OrphanEnded {
        /// Its process id.
        pid: i32,
    },
    /// The cluster that was there cannot be used, and an empty one takes its place.
    Recreated {
        /// Why, as a sentence.
        why: String,
    },
    /// `initdb` runs.
    InitDb {
        /// Where.
        data_dir: PathBuf,
        /// The major version.
        major: u32,
    },
    /// Somebody else listens on the port of before; no lease carried it.
    PortChanged {
        /// The port of before.
        from: u16,
        /// The new one.
        to: u16,
    },
    /// Postgres has been started and does not take connections yet.
    Starting {
        /// Its port.
        port: u16,
    },
    /// Postgres takes connections.
    Ready {
        /// Its port.
        port: u16,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen { why } | Self::Recreated { why } => out.write_str(why),
            Self::Finding => out.write_str("Looking for a PostgreSQL server."),
            Self::Adopted => out.write_str("Adopted the PostgreSQL server that an earlier daemon left running."),
            Self::OrphanEnded { pid } => {
                write!(out, "Stopped the PostgreSQL server (process {pid}) that had lost its supervisor.")
            }
            Self::InitDb { data_dir, major } => {
                write!(out, "Making a PostgreSQL {major} server in {}.", data_dir.display())
            }
            Self::PortChanged { from, to } => {
                write!(
                    out,
                    "The embedded server moves from port {from}, which is taken or not wanted any more, to port {to}."
                )
            }
            Self::Starting { port } => write!(out, "Starting PostgreSQL on port {port}."),
            Self::Ready { port } => write!(out, "PostgreSQL serves on 127.0.0.1:{port}."),
        }
    }
}
