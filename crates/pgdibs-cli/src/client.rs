//! Talks HTTP to the daemon: one call, and the call that is tried again exactly while `Retry-After` says so.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api_error::ApiError;
use super::error::CliError;
use super::progress::Progress;
use super::responses::Problem;

/// A daemon on this machine accepts within microseconds, one in another network within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What an answer may take on top of the wait that was asked for: sealing a template vacuums it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest single wait of the API.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// What RFC 3986 lets stand in a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nobody answers there.
    #[error("no daemon answers at {url} ({reason})")]
    Unavailable {
        /// The daemon's address.
        url: String,
        /// The innermost reason.
        reason: String,
    },
    /// The connection stood, but no answer came.
    #[error("the daemon at {url} did not answer {method} {path} ({reason})")]
    NoAnswer {
        /// The daemon's address.
        url: String,
        /// Of the call.
        method: Method,
        /// Of the call.
        path: String,
        /// The innermost reason.
        reason: String,
    },
    /// The daemon said no.
    #[error("{0}")]
    Refused(ApiError),
    /// The answer is not what the API promises.
    #[error("{url} answered {method} {path} with something that is not the API of pgdibs ({problem})")]
    Foreign {
        /// The daemon's address.
        url: String,
        /// Of the call.
        method: Method,
        /// Of the call.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ClientError {
    /// The daemon's own code (`pool_not_found`), when it answered with one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(api_error) => Some(&api_error.code),
            _ => None,
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let sentence = error.to_string();
        match error {
            ClientError::Unavailable { .. } => Self::unavailable(sentence)
                .hint("start one with `pgdibs serve`, or name another with --url or PGDIBS_URL"),
            ClientError::NoAnswer { .. } => {
                Self::unavailable(sentence).hint("`pgdibs healthcheck --ready` says how it is; its log says more")
            }
            ClientError::Refused(api_error) => match api_error.hint() {
                Some(hint) => Self::failed(sentence).hint(hint),
                None => Self::failed(sentence),
            },
            ClientError::Foreign { .. } => Self::failed(sentence)
                .hint("another program may listen there; name the daemon with --url or PGDIBS_URL"),
        }
    }
}

/// An answer that is no refusal. It may carry credentials, so it has no `Debug`.
pub(super) struct Answer {
    /// 200, 201, 202 or 204.
    pub(super) status: u16,
    /// Null when there is none.
    pub(super) body: Value,
    /// Not there yet: try again after this long (202).
    pub(super) retry_after: Option<Duration>,
}

impl Answer {
    /// The body as one of our shapes.
    ///
    /// # Errors
    /// When the daemon's JSON has another shape.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        T::deserialize(&self.body).map_err(|error| {
            CliError::failed(format!("the daemon's answer cannot be understood: {error}"))
                .hint("the daemon may be of another version: `pgdibs status` shows it, `pgdibs --version` shows ours")
        })
    }
}

/// A daemon and the token it wants. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<SecretString>,
}

impl Client {
    /// For the daemon at `url`, such as `http://127.0.0.1:7432`.
    ///
    /// # Errors
    /// When `url` is not one we can call.
    pub(super) fn new(url: &str, token: Option<SecretString>) -> Result<Self, CliError> {
        let parsed = Url::parse(url).ok().filter(|parsed| parsed.scheme() == "http" && parsed.has_host());
        let Some(parsed) = parsed.filter(|parsed| parsed.query().is_none() && parsed.fragment().is_none()) else {
            return Err(CliError::usage(format!("`{url}` is not the address of a daemon"))
                .hint("write http://HOST:PORT, such as http://127.0.0.1:7432; the daemon speaks plain HTTP"));
        };
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .user_agent(concat!("pgdibs/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&parsed) {
            // A proxy for the outside world cannot reach our own loopback.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| CliError::failed(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned(), token })
    }

    /// The daemon's address, without a slash at its end.
    pub(super) fn url(&self) -> &str {
        &self.base
    }

    /// The token that this client presents.
    pub(super) fn token(&self) -> Option<&SecretString> {
        self.token.as_ref()
    }

    /// `GET path`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(super) async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.call(Method::GET, path, None, Duration::ZERO).await
    }

    /// One call. `wait` is how long the daemon was asked to wait; the answer may take a little longer.
    ///
    /// # Errors
    /// What [`ClientError`] tells apart.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait: Duration,
    ) -> Result<Answer, ClientError> {
        let url = || self.base.clone();
        let mut request =
            self.http.request(method.clone(), format!("{}{path}", self.base)).timeout(wait + ANSWER_TIMEOUT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let no_answer = |error: reqwest::Error| match error.is_connect() {
            true => ClientError::Unavailable { url: url(), reason: innermost(&error) },
            false => ClientError::NoAnswer {
                url: url(),
                method: method.clone(),
                path: path.to_owned(),
                reason: innermost(&error),
            },
        };
        let response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        // A date instead of seconds is allowed by RFC 9110; ours sends seconds, and a second is a harmless reading of the rest.
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .map(|value| value.to_str().ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1))
            .map(Duration::from_secs);
        let bytes = response.bytes().await.map_err(no_answer)?;
        let foreign = |problem: String| ClientError::Foreign {
            url: url(),
            method: method.clone(),
            path: path.to_owned(),
            problem,
        };
        let body = match bytes.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice::<Value>(&bytes),
        };
        if status.is_success() {
            let body = body.map_err(|error| foreign(format!("status {}: {error}", status.as_u16())))?;
            return Ok(Answer { status: status.as_u16(), body, retry_after });
        }
        let problem = body.ok().and_then(|body| serde_json::from_value::<Problem>(body).ok()).unwrap_or_default();
        if problem.code.is_empty() && problem.detail.is_empty() && problem.reasons.is_empty() {
            return Err(foreign(format!("status {}", status.as_u16())));
        }
        Err(ClientError::Refused(ApiError::new(status.as_u16(), problem, retry_after)))
    }

    /// A call that may have to wait for its turn: `body` is given the seconds that are left for `wait_seconds`. Tried again
    /// exactly when the answer carries `Retry-After` and that still lies within `wait`.
    ///
    /// # Errors
    /// The last refusal, or what [`Client::call`] says.
    pub(super) async fn call_waiting(
        &self,
        method: Method,
        path: &str,
        body: impl Fn(f64) -> Option<Value>,
        wait: Duration,
        progress: &Progress,
    ) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
            let seconds = (left.as_secs_f64() * 1000.0).round() / 1000.0;
            let result = self.call(method.clone(), path, body(seconds).as_ref(), left).await;
            let again = match &result {
                Ok(answer) => answer.retry_after,
                Err(ClientError::Refused(api_error)) => api_error.retry_after,
                Err(_) => None,
            };
            match again {
                Some(pause) if Instant::now() + pause < deadline => {
                    if let Err(ClientError::Refused(api_error)) = &result {
                        progress.now(api_error.detail.clone());
                    }
                    // The daemon named this pause.
                    tokio::time::sleep(pause).await;
                }
                _ => return result,
            }
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The last in the chain says what happened ("connection refused"), the ones before it who noticed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// `text` as one segment of a path.
///
/// # Errors
/// For `.` and `..`, which every URL library takes for steps through the path, however they are written.
pub(super) fn segment(text: &str) -> Result<String, CliError> {
    match text {
        "" | "." | ".." => Err(CliError::usage(format!("`{text}` cannot stand in a URL")).hint("use another name")),
        _ => Ok(utf8_percent_encode(text, SEGMENT).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("main@a/b?c#d e%é").unwrap(), "main%40a%2Fb%3Fc%23d%20e%25%C3%A9");
        assert_eq!(segment("v1.2-rc_3~x").unwrap(), "v1.2-rc_3~x");
        assert!(segment("..").is_err());
        assert!(segment("").is_err());
    }

    #[test]
    fn addresses_that_cannot_be_called_are_refused_with_the_form_of_those_that_can() {
        for bad in ["127.0.0.1:7432", "https://127.0.0.1:7432", "http://", "http://h/?a=b", "unix:///run/pgdibs"] {
            let told = Client::new(bad, None).unwrap_err().to_string();
            assert!(told.contains(bad), "{told}");
        }
        assert_eq!(Client::new("http://127.0.0.1:7432/", None).unwrap().url(), "http://127.0.0.1:7432");
    }

    #[test]
    fn loopback_is_known_in_all_its_spellings() {
        for url in ["http://localhost:1", "http://127.0.0.1", "http://[::1]:7432", "http://127.9.9.9:80"] {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://pgdibs:7432", "http://10.0.0.1", "http://localhost.example.com"] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
