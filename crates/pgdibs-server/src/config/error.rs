//! What is wrong with the configuration, as one sentence that names the place, the rule and what to do.

use std::fmt;
use std::path::PathBuf;

/// The first thing that is wrong. No sentence contains a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

impl ConfigError {
    /// `setting` is `listen` or `pools.shop.warm`.
    pub(super) fn value(setting: &str, origin: &Origin, problem: &str) -> Self {
        Self(format!("{setting} ({origin}): {problem}"))
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// By the name of its setting.
    Flag(&'static str),
    Environment(String),
    File {
        /// As the user named it.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(out, "flag --{}", name.replace('_', "-")),
            Self::Environment(name) => write!(out, "environment {name}"),
            Self::File { path, line } => write!(out, "file {} line {line}", path.display()),
            Self::Default => out.write_str("default"),
        }
    }
}
