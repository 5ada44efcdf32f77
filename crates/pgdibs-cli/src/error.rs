//! The error of a command: a message, a hint and an exit code. Also the hint that belongs to each error of the client library.

use pgdibs::ApiError;
use pgdibs::api::problem::{Code, Problem};
use pgdibs_server::config::ConfigError;
use serde_json::{Value, json};

/// The command failed.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// The file of a template is damaged (`EX_DATAERR`).
pub(super) const DAMAGED: u8 = 65;
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
        /// The problem document of the API, when the daemon sent the error.
        problem: Option<Box<Value>>,
    },
    /// The reader of standard output has closed it (`pgdibs status | head -1`): the command ends without a message.
    #[error("standard output is closed")]
    OutputClosed,
}

impl CliError {
    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self::Failure { message: message.into(), hint: None, exit_code, problem: None }
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

    fn of_api(error: &ApiError) -> Self {
        let known = serde_json::from_value::<Code>(json!(error.code)).ok();
        let problem = known.and_then(|code| serde_json::to_value(Problem::new(code, error.detail.clone())).ok());
        let problem = problem.or_else(|| {
            let named = Some(&error.code).filter(|code| !code.is_empty())?;
            Some(json!({"code": named, "detail": error.detail, "status": error.status}))
        });
        Self::Failure { message: error.to_string(), hint: None, exit_code: FAILED, problem: problem.map(Box::new) }
    }

    /// The error for `--output json`: the problem document of the API, else `code` and `detail`; and the hint.
    pub(super) fn json(&self) -> Value {
        let Self::Failure { message, hint, exit_code, problem } = self else { return json!({}) };
        let mut object = problem.as_deref().cloned().unwrap_or_else(|| {
            let code = match *exit_code {
                USAGE => "usage",
                DAMAGED => "file_damaged",
                UNAVAILABLE => "daemon_unavailable",
                CONFIGURATION => "configuration",
                _ => "failed",
            };
            json!({"code": code, "detail": message})
        });
        if let Some(hint) = hint {
            object["hint"] = json!(hint);
        }
        object
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
        let problem = without_position(&error.to_string());
        Self::failed(format!("cannot parse the daemon's response: {problem}")).hint(OTHER_VERSION)
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
                Some(hint) => Self::of_api(&error).hint(hint),
                None => Self::of_api(&error),
            },
            _ => Self::failed(without_position(&message))
                .hint("another program may listen there; name the daemon with --url or PGDIBS_URL"),
        }
    }
}

/// A text of serde without the positions in a document that the user does not see: ` at line 1 column 5`.
fn without_position(text: &str) -> String {
    let mut parts = text.split(" at line ");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after_number = |text: &'_ str| text.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
        match after_number(part).strip_prefix(" column ") {
            Some(column) => shown.push_str(&after_number(column)),
            None => shown.push_str(&format!(" at line {part}")),
        }
    }
    shown
}

/// What a user of the command line can do about an API error, whose own message is for callers of the HTTP API.
fn hint(code: &str) -> Option<&'static str> {
    let hint = match code {
        "unauthorized" => {
            "give the daemon's token in PGDIBS_TOKEN, or the path of a file that has it in PGDIBS_TOKEN_FILE"
        }
        "pool_not_found" => "`pgdibs pool list` shows the pools; `pgdibs pool set NAME` creates one",
        "template_not_found" => {
            "`pgdibs template list` shows the templates, whose fingerprints may be shortened to 4 characters; `pgdibs template build POOL --fingerprint F -- COMMAND` builds one"
        }
        "template_failed" => "correct the build and try again; the next attempt starts with an empty database",
        "lease_not_found" | "lease_ended" => "`pgdibs status` shows the live leases",
        "database_not_found" => {
            "`pgdibs status` shows the live leases; the daemon drops kept databases when their time has passed"
        }
        "pool_in_use" => "wait until its leases end, or end them with `pgdibs pool drop POOL --force`",
        "template_ambiguous" => "name one with --fingerprint; `pgdibs template list` shows the templates",
        "template_in_use" => "`pgdibs status` shows its leases",
        "pool_exhausted" => "wait longer with --wait, or raise the limit with `pgdibs pool set POOL --max N`",
        "template_building" => "wait longer with --wait",
        "host_not_allowed" => "add the name to PGDIBS_ALLOWED_HOSTS of the daemon",
        "internal" => "this is a bug; the daemon's log has the details",
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_position_drops_line_and_column_alone() {
        for (text, shown) in [
            ("missing field `pool` at line 1 column 5", "missing field `pool`"),
            ("a (status 200: expected value at line 1 column 1)", "a (status 200: expected value)"),
            ("sql/1.sql, at line 3: no", "sql/1.sql, at line 3: no"),
            ("it fails at line 3 of 1.sql", "it fails at line 3 of 1.sql"),
        ] {
            assert_eq!(without_position(text), shown);
        }
    }

    #[test]
    fn json_has_code_and_detail_of_each_kind() {
        let api = ApiError {
            status: 404,
            code: "pool_not_found".to_owned(),
            detail: "no".to_owned(),
            retry_after: None,
            api_level: 1,
        };
        let error = CliError::from(pgdibs::Error::Api(api.clone())).json();
        assert_eq!((&error["type"], &error["status"]), (&json!("urn:pgdibs:problem:pool_not_found"), &json!(404)));
        assert_eq!((&error["code"], &error["detail"]), (&json!("pool_not_found"), &json!("no")));
        assert!(error["hint"].as_str().unwrap().contains("pgdibs pool list"), "{error}");
        let unknown = CliError::of_api(&ApiError { code: "new_code".to_owned(), ..api }).json();
        assert_eq!(unknown, json!({"code": "new_code", "detail": "no", "status": 404}));
        assert_eq!(CliError::usage("bad").hint("do").json(), json!({"code": "usage", "detail": "bad", "hint": "do"}));
        assert_eq!(CliError::unavailable("x").json()["code"], "daemon_unavailable");
        assert_eq!(CliError::configuration("x").json()["code"], "configuration");
    }
}
