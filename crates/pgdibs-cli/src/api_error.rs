//! A refusal of the daemon, and the way out that the command line knows for it.

use std::fmt;
use std::time::Duration;

use super::responses::Problem;

/// The daemon said no (RFC 9457).
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    /// The HTTP status.
    pub(super) status: u16,
    /// From the API's closed list; empty when something in between answered.
    pub(super) code: String,
    /// What happened, as a sentence.
    pub(super) detail: String,
    /// The same call may simply be tried again after this long.
    pub(super) retry_after: Option<Duration>,
}

impl ApiError {
    /// From the daemon's answer.
    pub(super) fn new(status: u16, problem: Problem, retry_after: Option<Duration>) -> Self {
        let detail =
            [problem.detail, problem.reasons.join("; "), problem.title].into_iter().find(|text| !text.is_empty());
        let detail = detail.unwrap_or_else(|| format!("the daemon answered {status} {}", problem.code));
        Self { status, code: problem.code, detail, retry_after }
    }

    /// What a user of the command line can do about it. The sentence itself is the daemon's, which speaks to HTTP callers.
    pub(super) fn hint(&self) -> Option<&'static str> {
        let hint = match self.code.as_str() {
            "unauthorized" => {
                "give the daemon's token in PGDIBS_TOKEN, or the name of a file that holds it in PGDIBS_TOKEN_FILE"
            }
            "pool_not_found" => "`pgdibs pool list` shows the pools; `pgdibs pool set NAME` makes one",
            "template_not_found" => {
                "`pgdibs template list` shows what there is; `pgdibs template build POOL --fingerprint F -- COMMAND` builds one"
            }
            "template_failed" => "correct the build and try again; the next attempt starts from a clean database",
            "lease_not_found" | "lease_ended" => "`pgdibs status` shows the live leases",
            "database_not_found" => "`pgdibs status` shows the live leases; kept databases go when their time is over",
            "pool_in_use" => "wait until its leases end, or end them with `pgdibs pool drop POOL --force`",
            "template_in_use" => "`pgdibs status` shows who has leases from it",
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
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.detail.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &str, detail: &str, title: &str) -> Problem {
        Problem { code: code.to_owned(), detail: detail.to_owned(), title: title.to_owned(), reasons: Vec::new() }
    }

    #[test]
    fn the_sentence_is_the_detail_then_the_title_then_the_status() {
        assert_eq!(ApiError::new(404, problem("c", "no such pool", "Not Found"), None).to_string(), "no such pool");
        let probe = Problem { reasons: vec!["a".to_owned(), "b".to_owned()], ..Problem::default() };
        assert_eq!(ApiError::new(503, probe, None).to_string(), "a; b");
        assert_eq!(ApiError::new(404, problem("c", "", "Not Found"), None).to_string(), "Not Found");
        assert_eq!(ApiError::new(418, problem("c", "", ""), None).to_string(), "the daemon answered 418 c");
    }
}
