//! Why a call brought no result.

use std::fmt;
use std::time::Duration;

use pgdibs_api::probe::Ready;
use reqwest::Method;
use serde::Deserialize;

use crate::response::Response;

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address or the path cannot be called.
    #[error("{0}")]
    Address(String),
    /// No daemon listens there.
    #[error("no daemon answers at {url} ({reason})")]
    Unavailable {
        /// The daemon's address.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The connection was established, but no answer arrived.
    #[error("the daemon at {url} did not answer {method} {path} ({reason})")]
    NoAnswer {
        /// The daemon's address.
        url: String,
        /// The method of the call.
        method: Method,
        /// The path of the call.
        path: String,
        /// The innermost cause.
        reason: String,
    },
    /// The daemon refused the call.
    #[error("{0}")]
    Api(ApiError),
    /// The answer is not what the API promises.
    #[error("{url} answered {method} {path} with something that is not the API of pgdibs ({problem})")]
    Foreign {
        /// The daemon's address.
        url: String,
        /// The method of the call.
        method: Method,
        /// The path of the call.
        path: String,
        /// What is wrong with the answer.
        problem: String,
    },
}

impl Error {
    /// The daemon's code (`pool_not_found`), when it answered with one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api(error) => Some(&error.code),
            _ => None,
        }
    }
}

/// The daemon's refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// From the API's closed list; empty when something between the client and the daemon answered.
    pub code: String,
    /// What is wrong, as a sentence.
    pub detail: String,
    /// The same call may be tried again after this long.
    pub retry_after: Option<Duration>,
    /// The level of the daemon's API; 0 when the answer names none.
    pub api_level: u32,
}

/// A refusal as it may come: every field may be missing, since a proxy may have written it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    title: String,
    detail: String,
    code: String,
    #[serde(flatten)]
    probe: Option<Ready>,
}

impl ApiError {
    /// Reads the body of an answer that is no success; `None` when it is not one of the daemon's.
    pub(crate) fn read(response: &Response) -> Option<Self> {
        let Response { status, retry_after, api_level, .. } = *response;
        let refusal: Refusal = serde_json::from_slice(response.bytes()).ok()?;
        let reasons = refusal.probe.map(|probe| probe.reasons.join("\n")).unwrap_or_default();
        if refusal.code.is_empty() && refusal.detail.is_empty() && reasons.is_empty() {
            return None;
        }
        let detail = [refusal.detail, reasons, refusal.title].into_iter().find(|text| !text.is_empty());
        let detail = detail.unwrap_or_else(|| format!("the daemon answered {status} {}", refusal.code));
        Some(Self { status, code: refusal.code, detail, retry_after, api_level })
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.detail.trim_end())
    }
}

/// The last error of a chain names the cause ("connection refused"); those before it name the layer that noticed it.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: u16, body: &str) -> Option<String> {
        ApiError::read(&Response::of(status, body)).map(|error| error.to_string())
    }

    #[test]
    fn sentence_is_detail_then_reasons_then_title_then_status() {
        let all = r#"{"code": "c", "detail": "no such pool", "title": "Not Found"}"#;
        assert_eq!(shown(404, all).unwrap(), "no such pool");
        assert_eq!(shown(503, r#"{"ready": false, "reasons": ["a", "b"]}"#).unwrap(), "a\nb");
        assert_eq!(shown(404, r#"{"code": "c", "title": "Not Found"}"#).unwrap(), "Not Found");
        assert_eq!(shown(418, r#"{"code": "c"}"#).unwrap(), "the daemon answered 418 c");
    }

    #[test]
    fn answer_of_another_program_is_no_refusal() {
        for body in ["<html>", "{}", "[]", r#"{"error": "not found"}"#] {
            assert_eq!(shown(404, body), None, "{body}");
        }
    }
}
