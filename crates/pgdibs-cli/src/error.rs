//! What a command ends with when it does not end well: one sentence, the way out, and an exit code.

use pgdibs_server::config::ConfigError;

/// The command could not do what was asked.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// No daemon answers (`EX_UNAVAILABLE`).
pub(super) const UNAVAILABLE: u8 = 69;
/// The configuration is wrong (`EX_CONFIG`).
pub(super) const CONFIGURATION: u8 = 78;

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Something to tell the user.
    #[error("{sentence}")]
    Told {
        /// What happened, naming the thing and the rule.
        sentence: String,
        /// The way out.
        hint: Option<String>,
        /// The process's exit code.
        exit: u8,
    },
    /// Nobody reads our output any more (`pgdibs status | head -1`): nothing to say, and nobody to say it to.
    #[error("standard output is closed")]
    OutputClosed,
}

impl CliError {
    fn told(exit: u8, sentence: impl Into<String>) -> Self {
        Self::Told { sentence: sentence.into(), hint: None, exit }
    }

    /// The command could not do what was asked.
    pub(super) fn failed(sentence: impl Into<String>) -> Self {
        Self::told(FAILED, sentence)
    }

    /// The command line is wrong in a way that only the command itself can see.
    pub(super) fn usage(sentence: impl Into<String>) -> Self {
        Self::told(USAGE, sentence)
    }

    /// No daemon answers.
    pub(super) fn unavailable(sentence: impl Into<String>) -> Self {
        Self::told(UNAVAILABLE, sentence)
    }

    /// The configuration is wrong.
    pub(super) fn configuration(sentence: impl Into<String>) -> Self {
        Self::told(CONFIGURATION, sentence)
    }

    /// Adds the way out.
    #[must_use]
    pub(super) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Told { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// Another exit code: the command of `pgdibs run` may bring its own.
    #[must_use]
    pub(super) fn exit(mut self, code: u8) -> Self {
        if let Self::Told { exit, .. } = &mut self {
            *exit = code;
        }
        self
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::configuration(error.to_string())
            .hint("`pgdibs config` shows every setting and where its value comes from; flags win over PGDIBS_* variables, those over the file")
    }
}

impl From<pgdibs::connection_url::NotPostgres> for CliError {
    fn from(error: pgdibs::connection_url::NotPostgres) -> Self {
        Self::failed(error.to_string())
            .hint("the daemon may be of another version: `pgdibs status` shows it, `pgdibs --version` shows ours")
    }
}
