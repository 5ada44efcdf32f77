//! The source of a pool's template, when the daemon builds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::matching::FileGlob;

/// One source, as `[pools.NAME.source]` describes it. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Source {
    /// The kind.
    pub kind: SourceKind,
    /// Files whose content counts for the fingerprint, relative to `base`. The files of an SQL source always count.
    pub inputs: Vec<FileGlob>,
    /// The directory of the configuration file.
    pub base: PathBuf,
    /// Variables for the command or for `psql`, besides the daemon's. Values may be secrets.
    pub env: BTreeMap<String, SecretString>,
    /// The working directory of the command or `psql`.
    pub directory: PathBuf,
    /// The timeout of a build; `None` for the setting `build_timeout_seconds`.
    pub timeout: Option<Duration>,
    /// The interval at which a `database` source is copied again although its schema is unchanged; `None` for never.
    pub refresh: Option<Duration>,
    /// A build that makes nothing is a success.
    pub allow_empty: bool,
}

/// The four kinds of source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// The migrations in this directory, in the order of their names with versions by value.
    SqlDir(PathBuf),
    /// One SQL file or dump of `pg_dump`, in any of its formats.
    SqlFile(PathBuf),
    /// A program and its arguments; no shell.
    Command(Vec<String>),
    /// A database on the same server; pg_dump copies it.
    Database(String),
}

impl Source {
    /// A file as messages show it: relative to the directory of the configuration file if it is below that.
    pub fn shown(&self, file: &Path) -> String {
        file.strip_prefix(&self.base).unwrap_or(file).display().to_string()
    }
}

impl SourceKind {
    /// The key in the configuration file.
    pub fn key(&self) -> &'static str {
        match self {
            Self::SqlDir(_) => "sql_dir",
            Self::SqlFile(_) => "sql_file",
            Self::Command(_) => "command",
            Self::Database(_) => "database",
        }
    }
}
