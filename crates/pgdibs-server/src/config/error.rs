//! What can be wrong with the configuration, as sentences that name the place, the rule and the way out.

use std::path::PathBuf;

use super::layers::Origin;

/// Why the configuration cannot be used. The first thing that is wrong is reported; no value of a secret is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was asked for is not there or cannot be read.
    #[error(
        "{asked_by}: cannot read the configuration file {}: {reason}; correct the path or leave it out (then ./pgdibs.toml is read if it exists)",
        path.display()
    )]
    Unreadable {
        /// What named the file: a flag, a variable, or the default place.
        asked_by: String,
        /// The path as it was given.
        path: PathBuf,
        /// The operating system's reason.
        reason: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}, column {column}: this is not valid TOML: {problem}", file.display())]
    Syntax {
        /// The file as people know it.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// The parser's words.
        problem: String,
    },
    /// A key nobody knows.
    #[error("{}, line {line}: unknown key `{key}` {place}; {hint}", file.display())]
    UnknownKey {
        /// The file as people know it.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key as written.
        key: String,
        /// Which table it stands in.
        place: String,
        /// The nearest known key, or all of them.
        hint: String,
    },
    /// A value that breaks its setting's rule.
    #[error("{setting} ({origin}): {problem}")]
    Value {
        /// The setting, such as `listen` or `pools.shop.warm`.
        setting: String,
        /// Where the value came from.
        origin: Origin,
        /// The rule and the way out.
        problem: String,
    },
}

impl ConfigError {
    /// A value that breaks its setting's rule.
    pub fn value(setting: impl Into<String>, origin: &Origin, problem: impl Into<String>) -> Self {
        Self::Value { setting: setting.into(), origin: origin.clone(), problem: problem.into() }
    }
}
