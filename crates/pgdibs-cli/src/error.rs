//! The error of a command: a message, a hint and an exit code. Also the hint that belongs to each error of the client library.

use pgdibs_server::config::ConfigError;

/// The command failed.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// No daemon answers (`EX_UNAVAILABLE`).
pub(super) const UNAVAILABLE: u8 = 69;
/// The configuration is wrong (`EX_CONFIG`).
pub(super) const CONFIGURATION: u8 = 78;

const OTHER_VERSION: &str =
    "the daemon may be of another version: `pgdibs status` shows its version, `pgdibs --version` that of this program";

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("{message}")]
    Failure {
        /// What is wrong, and the rule.
        message: String,
        /// What to do.
        hint: Option<String>,
        exit_code: u8,
    },
    /// The reader of standard output has closed it (`pgdibs status | head -1`): the command ends without a message.
    #[error("standard output is closed")]
    OutputClosed,
}

impl CliError {
    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self::Failure { message: message.into(), hint: None, exit_code }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    /// The command line is wrong, by a rule that clap does not check.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(UNAVAILABLE, message)
    }

    pub(super) fn configuration(message: impl Into<String>) -> Self {
        Self::new(CONFIGURATION, message)
    }

    #[must_use]
    pub(super) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Failure { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    #[must_use]
    pub(super) fn exit_code(mut self, code: u8) -> Self {
        if let Self::Failure { exit_code, .. } = &mut self {
            *exit_code = code;
        }
        self
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::configuration(error.to_string()).hint(
            "`pgdibs config` shows every setting and the origin of its value; a flag overrides a PGDIBS_* variable, which overrides the file",
        )
    }
}

impl From<pgdibs::connection_url::NotPostgres> for CliError {
    fn from(error: pgdibs::connection_url::NotPostgres) -> Self {
        Self::failed(error.to_string()).hint(OTHER_VERSION)
    }
}

/// A response of the daemon that is not of the type that the API defines.
impl From<serde_json::Error> for CliError {
    fn from(error: serde_json::Error) -> Self {
        Self::failed(format!("cannot parse the daemon's response: {error}")).hint(OTHER_VERSION)
    }
}

impl From<pgdibs::Error> for CliError {
    fn from(error: pgdibs::Error) -> Self {
        let message = error.to_string();
        match error {
            pgdibs::Error::Address(_) => Self::usage(message),
            pgdibs::Error::Unavailable { .. } => Self::unavailable(message)
                .hint("start one with `pgdibs serve`, or name another with --url or PGDIBS_URL"),
            pgdibs::Error::NoAnswer { .. } => Self::unavailable(message)
                .hint("`pgdibs healthcheck --ready` shows whether it is ready; its log shows more"),
            pgdibs::Error::Api(error) => match hint(&error.code) {
                Some(hint) => Self::failed(message).hint(hint),
                None => Self::failed(message),
            },
            _ => {
                Self::failed(message).hint("another program may listen there; name the daemon with --url or PGDIBS_URL")
            }
        }
    }
}

/// What a user of the command line can do about an API error, whose own message is for callers of the HTTP API.
fn hint(code: &str) -> Option<&'static str> {
    let hint = match code {
        "unauthorized" => {
            "give the daemon's token in PGDIBS_TOKEN, or the path of a file that has it in PGDIBS_TOKEN_FILE"
        }
        "pool_not_found" => "`pgdibs pool list` shows the pools; `pgdibs pool set NAME` creates one",
        "template_not_found" => {
            "`pgdibs template list` shows the templates; `pgdibs template build POOL --fingerprint F -- COMMAND` builds one"
        }
        "template_failed" => "correct the build and try again; the next attempt starts with an empty database",
        "lease_not_found" | "lease_ended" => "`pgdibs status` shows the live leases",
        "database_not_found" => {
            "`pgdibs status` shows the live leases; the daemon drops kept databases when their time has passed"
        }
        "pool_in_use" => "wait until its leases end, or end them with `pgdibs pool drop POOL --force`",
        "template_in_use" => "`pgdibs status` shows its leases",
        "pool_exhausted" => "wait longer with --wait, or raise the limit with `pgdibs pool set POOL --max N`",
        "template_building" => "wait longer with --wait",
        "host_not_allowed" => "add the name to PGDIBS_ALLOWED_HOSTS of the daemon",
        "internal" => "this is a bug; the daemon's log has the details",
        _ => return None,
    };
    Some(hint)
}
