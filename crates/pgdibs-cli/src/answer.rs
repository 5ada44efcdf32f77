//! Answers of the daemon as the command line reads them, and the hint that belongs to each error.

use pgdibs::{Error, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::CliError;

/// What every command does with an answer.
pub(super) trait Answer {
    /// The body as one of the API's types.
    ///
    /// # Errors
    /// When the daemon's JSON has another shape.
    fn read<T: DeserializeOwned>(&self) -> Result<T, CliError>;

    /// The body as JSON, for `--output json`.
    fn body(&self) -> Value;
}

impl Answer for Response {
    fn read<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        self.json().map_err(|error| {
            CliError::failed(format!("the daemon's answer cannot be understood: {error}")).hint(
                "the daemon may be of another version: `pgdibs status` shows its version, `pgdibs --version` shows ours",
            )
        })
    }

    fn body(&self) -> Value {
        self.value().unwrap_or_default()
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        match error {
            Error::Address(_) => Self::usage(sentence),
            Error::Unavailable { .. } => Self::unavailable(sentence)
                .hint("start one with `pgdibs serve`, or name another with --url or PGDIBS_URL"),
            Error::NoAnswer { .. } => Self::unavailable(sentence)
                .hint("`pgdibs healthcheck --ready` says whether it is ready; its log says more"),
            Error::Api(refusal) => match hint(&refusal.code) {
                Some(hint) => Self::failed(sentence).hint(hint),
                None => Self::failed(sentence),
            },
            _ => Self::failed(sentence)
                .hint("another program may listen there; name the daemon with --url or PGDIBS_URL"),
        }
    }
}

/// What a user of the command line can do about a refusal. The sentence itself is the daemon's, which speaks to HTTP callers.
fn hint(code: &str) -> Option<&'static str> {
    let hint = match code {
        "unauthorized" => {
            "give the daemon's token in PGDIBS_TOKEN, or the name of a file that holds it in PGDIBS_TOKEN_FILE"
        }
        "pool_not_found" => "`pgdibs pool list` shows the pools; `pgdibs pool set NAME` makes one",
        "template_not_found" => {
            "`pgdibs template list` shows what there is; `pgdibs template build POOL --fingerprint F -- COMMAND` builds one"
        }
        "template_failed" => "correct the build and try again; the next attempt starts from a clean database",
        "lease_not_found" | "lease_ended" => "`pgdibs status` shows the live leases",
        "database_not_found" => {
            "`pgdibs status` shows the live leases; kept databases are dropped when their time is over"
        }
        "pool_in_use" => "wait until its leases end, or end them with `pgdibs pool drop POOL --force`",
        "template_in_use" => "`pgdibs status` shows the leases of it",
        "pool_exhausted" => "wait longer with --wait, or raise the limit with `pgdibs pool set POOL --max N`",
        "template_building" => "wait longer with --wait",
        "host_not_allowed" => "add the name to PGDIBS_ALLOWED_HOSTS of the daemon",
        "not_found" | "method_not_allowed" => {
            "the daemon may be older than this command: `pgdibs status` shows its version, `pgdibs --version` ours"
        }
        "internal" => "this is a bug; the daemon's log has the details",
        _ => return None,
    };
    Some(hint)
}
