//! One daemon and the token that it wants: single calls, and calls that are tried again while `Retry-After` says so.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::error::{ApiError, Error, innermost};
use crate::response::Response;
use crate::reuse::Connections;
use crate::skew;

/// Where a daemon listens unless it is configured otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7432";
/// A daemon on this machine accepts within microseconds, one in another network within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What an answer may take on top of the wait that was asked for: sealing a template vacuums it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest single wait of the API.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// The daemon closes connections that are idle for 75 s; the client closes them first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How a client connects.
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    url: String,
    token: Option<SecretString>,
    timeout: Duration,
    reuse: bool,
}

impl ClientBuilder {
    /// The token that the daemon wants.
    #[must_use]
    pub fn token(self, token: Option<SecretString>) -> Self {
        Self { token, ..self }
    }

    /// What an answer may take on top of the wait that was asked for; 30 s unless set.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Whether connections are kept for the next call; they are unless this is false.
    #[must_use]
    pub fn reuse_connections(self, reuse: bool) -> Self {
        Self { reuse, ..self }
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::Address`] when the URL is not `http://HOST:PORT`.
    pub fn build(self) -> Result<Client, Error> {
        let parsed = Url::parse(&self.url).ok().filter(|parsed| parsed.scheme() == "http" && parsed.has_host());
        let Some(parsed) = parsed.filter(|parsed| parsed.query().is_none() && parsed.fragment().is_none()) else {
            return Err(Error::Address(format!(
                "`{}` is not the address of a daemon; write http://HOST:PORT, such as {DEFAULT_URL}; the daemon speaks plain HTTP",
                self.url
            )));
        };
        let connections = Connections::default();
        let http = |idle_connections: usize| {
            let mut builder = reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(Policy::none())
                .pool_max_idle_per_host(idle_connections)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .connector_layer(connections.clone())
                .user_agent(concat!("pgdibs/", env!("CARGO_PKG_VERSION")));
            if is_loopback(&parsed) {
                // A proxy for the outside world cannot reach this machine's loopback.
                builder = builder.no_proxy();
            }
            builder
                .build()
                .map_err(|error| Error::Address(format!("cannot make an HTTP client: {}", innermost(&error))))
        };
        Ok(Client {
            http: http(if self.reuse { usize::MAX } else { 0 })?,
            unpooled: http(0)?,
            connections,
            base: self.url.trim_end_matches('/').to_owned(),
            token: self.token,
            timeout: self.timeout,
        })
    }
}

/// A daemon and the token that it wants. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// For the one retry: its connection is always a new one.
    unpooled: reqwest::Client,
    connections: Connections,
    base: String,
    token: Option<SecretString>,
    timeout: Duration,
}

impl Client {
    /// A client for the daemon at `url`, such as `http://127.0.0.1:7432`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder { url: url.into(), token: None, timeout: ANSWER_TIMEOUT, reuse: true }
    }

    /// A client for the daemon that `PGDIBS_URL` names ([`DEFAULT_URL`] without one), with the token in `PGDIBS_TOKEN`.
    ///
    /// # Errors
    /// [`Error::Address`] when `PGDIBS_URL` is not `http://HOST:PORT`.
    pub fn from_environment() -> Result<Self, Error> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = variable("PGDIBS_URL").unwrap_or_else(|| DEFAULT_URL.to_owned());
        Self::builder(url).token(variable("PGDIBS_TOKEN").map(SecretString::from)).build()
    }

    /// The daemon's address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// The token that this client presents.
    #[must_use]
    pub fn token(&self) -> Option<&SecretString> {
        self.token.as_ref()
    }

    /// `GET path`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn get(&self, path: &str) -> Result<Response, Error> {
        self.call(Method::GET, path, None, Duration::ZERO).await
    }

    /// One call whose answer must be a success. `wait` is how long the daemon was asked to wait; the answer may take a little longer.
    ///
    /// # Errors
    /// As [`Client::send`]; [`Error::Api`] for an answer that is a refusal, [`Error::Foreign`] for one that is neither.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait: Duration,
    ) -> Result<Response, Error> {
        let mut rest: Option<Value> = None;
        loop {
            let body = rest.as_ref().or(body);
            match self.call_as_is(method.clone(), path, body, wait).await {
                Err(Error::Api(error)) => match skew::without_refused(body, &error) {
                    Some(without) => rest = Some(without),
                    None => return Err(Error::Api(self.with_versions(&method, path, error).await)),
                },
                result => return result,
            }
        }
    }

    /// The error; when its cause is that the daemon is older than this client, with a sentence that names both versions.
    async fn with_versions(&self, method: &Method, path: &str, error: ApiError) -> ApiError {
        let Some(missing) = skew::missing(method, path, &error) else { return error };
        let status = self.send(Method::GET, "/v1/status", None, Duration::ZERO).await;
        let status = status.ok().and_then(|response| response.value().ok()).unwrap_or_default();
        let version = status.pointer("/daemon/version").and_then(Value::as_str).unwrap_or("of an unknown version");
        ApiError { detail: missing.sentence(version, error.api_level), ..error }
    }

    async fn call_as_is(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait: Duration,
    ) -> Result<Response, Error> {
        let response = self.send(method.clone(), path, body, wait).await?;
        let foreign = |problem: String| Error::Foreign {
            url: self.base.clone(),
            method: method.clone(),
            path: path.to_owned(),
            problem: format!("status {}{problem}", response.status),
        };
        if !response.is_success() {
            let refusal = ApiError::read(&response);
            return Err(refusal.map_or_else(|| foreign(String::new()), Error::Api));
        }
        match response.value() {
            Ok(_) => Ok(response),
            Err(error) => Err(foreign(format!(": {error}"))),
        }
    }

    /// One call, whatever the status of its answer. It is sent once more, over a new connection, when a connection that was used before
    /// dies before the head of an answer: the daemon may have closed it as idle at that moment.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::NoAnswer`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait: Duration,
    ) -> Result<Response, Error> {
        let request = |http: &reqwest::Client| {
            let mut request = http.request(method.clone(), format!("{}{path}", self.base)).timeout(wait + self.timeout);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token.expose_secret());
            }
            match body {
                Some(body) => request.json(body),
                None => request,
            }
        };
        let no_answer = |error: reqwest::Error| match error.is_connect() {
            true => Error::Unavailable { url: self.base.clone(), reason: innermost(&error) },
            false => Error::NoAnswer {
                url: self.base.clone(),
                method: method.clone(),
                path: path.to_owned(),
                reason: innermost(&error),
            },
        };
        let opened = self.connections.opened();
        let response = match request(&self.http).send().await {
            // A concurrent call may have opened a connection; then this one counts as new, and is not sent again.
            Err(error) if !error.is_connect() && !error.is_timeout() && self.connections.opened() == opened => {
                request(&self.unpooled).send().await
            }
            sent => sent,
        };
        Response::read(response.map_err(no_answer)?).await.map_err(no_answer)
    }

    /// `GET path` whose answer is read as it comes.
    pub(crate) async fn open(&self, path: &str, query: &str, last: Option<&str>) -> Result<reqwest::Response, Error> {
        let mut request = self.unpooled.get(format!("{}{path}?{query}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let no_answer = |reason: String| Error::NoAnswer {
            url: self.base.clone(),
            method: Method::GET,
            path: path.to_owned(),
            reason,
        };
        let answered = tokio::time::timeout(self.timeout, request.send()).await;
        let response = match answered.map_err(|_| no_answer("no head of an answer came".to_owned()))? {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                return Err(Error::Unavailable { url: self.base.clone(), reason: innermost(&error) });
            }
            Err(error) => return Err(no_answer(innermost(&error))),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let response = Response::read(response).await.map_err(|error| no_answer(innermost(&error)))?;
        match ApiError::read(&response) {
            Some(error) => Err(Error::Api(self.with_versions(&Method::GET, path, error).await)),
            None => Err(Error::Foreign {
                url: self.base.clone(),
                method: Method::GET,
                path: path.to_owned(),
                problem: format!("status {}", response.status),
            }),
        }
    }

    /// A call that may have to wait for its turn: `body` is given the seconds that are left for `wait_seconds`. It is tried again
    /// exactly when the answer carries `Retry-After` and that is still within `wait`; `refused` is told each such refusal.
    ///
    /// # Errors
    /// The last refusal, or as [`Client::call`].
    pub async fn call_waiting(
        &self,
        method: Method,
        path: &str,
        body: impl Fn(f64) -> Option<Value>,
        wait: Duration,
        refused: impl Fn(&ApiError),
    ) -> Result<Response, Error> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
            let seconds = (left.as_secs_f64() * 1000.0).round() / 1000.0;
            let result = self.call(method.clone(), path, body(seconds).as_ref(), left).await;
            let retry_after = match &result {
                Ok(response) => response.retry_after,
                Err(Error::Api(error)) => error.retry_after,
                Err(_) => None,
            };
            match retry_after {
                Some(pause) if Instant::now() + pause < deadline => {
                    if let Err(Error::Api(error)) = &result {
                        refused(error);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_that_cannot_be_called_is_refused_with_an_example() {
        for bad in ["127.0.0.1:7432", "https://127.0.0.1:7432", "http://", "http://h/?a=b", "unix:///run/pgdibs"] {
            let sentence = Client::builder(bad).build().unwrap_err().to_string();
            assert!(sentence.contains(bad) && sentence.contains("http://127.0.0.1:7432"), "{sentence}");
        }
        assert_eq!(Client::builder("http://127.0.0.1:7432/").build().unwrap().url(), "http://127.0.0.1:7432");
    }

    #[test]
    fn loopback_is_recognised_in_all_spellings() {
        for url in ["http://localhost:1", "http://127.0.0.1", "http://[::1]:7432", "http://127.9.9.9:80"] {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://pgdibs:7432", "http://10.0.0.1", "http://localhost.example.com"] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
