//! Calls to a daemon that is older than this client: which field or route it does not know, and what the client does then.

use pgdibs_api::level::API_LEVEL;
use pgdibs_api::problem::Code;
use reqwest::Method;
use serde_json::Value;

use crate::error::ApiError;

/// Request fields that only inform people. A call goes on without them when the daemon does not know them.
const OPTIONAL_FIELDS: [&str; 2] = ["holder", "fingerprint_inputs"];

/// What comes before the name in the detail of `invalid_request`. The API promises these texts; no other part of the answer has the name.
const BEFORE_NAME: [&str; 2] = ["unknown field `", "unknown variant `"];

/// The name of the field or value that the daemon does not know.
fn unknown_name(error: &ApiError) -> Option<&str> {
    if error.code != Code::InvalidRequest.as_str() {
        return None;
    }
    let (_, rest) = BEFORE_NAME.iter().find_map(|text| error.detail.split_once(text))?;
    rest.split_once('`').map(|(name, _)| name)
}

/// The request without the field that this error refuses; `None` when that field is not an optional one of the request.
pub(crate) fn without_refused(body: Option<&Value>, error: &ApiError) -> Option<Value> {
    let name = unknown_name(error).filter(|name| OPTIONAL_FIELDS.contains(name))?;
    let rest = without(body?, name);
    (Some(&rest) != body).then_some(rest)
}

/// The value without the fields of this name, at any depth.
fn without(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let rest = fields.iter().filter(|(field, _)| *field != name);
            rest.map(|(field, value)| (field.clone(), without(value, name))).collect()
        }
        Value::Array(values) => values.iter().map(|value| without(value, name)).collect(),
        _ => value.clone(),
    }
}

/// What an older daemon does not know of this call; `None` when the daemon is not older, or the error has another cause.
pub(crate) fn missing(method: &Method, path: &str, error: &ApiError) -> Option<Missing> {
    if error.api_level >= API_LEVEL {
        return None;
    }
    let no_route = [Code::NotFound, Code::MethodNotAllowed].iter().any(|code| error.code == code.as_str());
    match unknown_name(error) {
        Some(name) => Some(Missing::Name(name.to_owned())),
        None if no_route => Some(Missing::Route(format!("{method} {}", path.split('?').next().unwrap_or(path)))),
        None => None,
    }
}

/// What an older daemon lacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A field or a value of the request.
    Name(String),
    /// Method and path.
    Route(String),
}

impl Missing {
    /// One sentence with both versions and what to do.
    pub(crate) fn sentence(&self, daemon_version: &str, daemon_level: u32) -> String {
        let versions = format!(
            "pgdibs client {} (API level {API_LEVEL}) talks to pgdibs daemon {daemon_version} (API level {daemon_level})",
            env!("CARGO_PKG_VERSION")
        );
        match self {
            Self::Name(name) => {
                format!("{versions}, which does not know `{name}`; upgrade the daemon or leave out `{name}`")
            }
            Self::Route(route) => format!("{versions}, which does not know `{route}`; upgrade the daemon"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(code: &str, detail: &str, api_level: u32) -> ApiError {
        ApiError { status: 400, code: code.to_owned(), detail: detail.to_owned(), retry_after: None, api_level }
    }

    #[test]
    fn optional_field_is_removed_at_any_depth() {
        let refused = error("invalid_request", "leases[0].holder: unknown field `holder`, expected `pool`", 0);
        let body = json!({"leases": [{"pool": "p", "holder": "me"}, {"pool": "q", "holder": "me"}], "wait_seconds": 1});
        let rest = json!({"leases": [{"pool": "p"}, {"pool": "q"}], "wait_seconds": 1});
        assert_eq!(without_refused(Some(&body), &refused), Some(rest.clone()));
        assert_eq!(without_refused(Some(&rest), &refused), None);
        let needed = error("invalid_request", "fresh: unknown field `fresh`, expected `pool`", 0);
        assert_eq!(without_refused(Some(&json!({"fresh": true})), &needed), None);
    }

    #[test]
    fn only_an_older_daemon_lacks_something() {
        let of = |code: &str, detail: &str, level: u32| missing(&Method::GET, "/v1/x?y=z", &error(code, detail, level));
        let unknown = "fresh: unknown field `fresh`, expected `pool`";
        assert_eq!(of("invalid_request", unknown, 0), Some(Missing::Name("fresh".to_owned())));
        assert_eq!(of("invalid_request", "query: unknown variant `no`", 0), Some(Missing::Name("no".to_owned())));
        assert_eq!(of("not_found", "there is no route", 0), Some(Missing::Route("GET /v1/x".to_owned())));
        assert_eq!(of("invalid_request", unknown, API_LEVEL), None);
        assert_eq!(of("invalid_request", "ttl_seconds: must be 1 to 3600", 0), None);
        assert_eq!(of("pool_not_found", unknown, 0), None);
    }
}
