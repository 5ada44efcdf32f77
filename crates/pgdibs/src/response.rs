//! An answer of the daemon, of whatever status.

use std::time::Duration;

use pgdibs_api::level::API_LEVEL_HEADER;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An answer. Its body may carry credentials, so it has no `Debug`.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`: try again after this long. A date counts as one second: the daemon sends seconds.
    pub retry_after: Option<Duration>,
    /// `Pgdibs-Api`: the level of the daemon's API; 0 without one.
    pub api_level: u32,
    /// `Content-Type`, empty without one.
    pub content_type: String,
    body: Vec<u8>,
}

impl Response {
    /// Reads the whole body.
    pub(crate) async fn read(response: reqwest::Response) -> Result<Self, reqwest::Error> {
        let headers = response.headers();
        let retry_after = headers
            .get(RETRY_AFTER)
            .map(|value| value.to_str().ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1))
            .map(Duration::from_secs);
        let api_level = headers.get(API_LEVEL_HEADER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (status, content_type) = (response.status().as_u16(), content_type.to_owned());
        let body = response.bytes().await?.to_vec();
        Ok(Self { status, retry_after, api_level, content_type, body })
    }

    #[cfg(test)]
    pub(crate) fn of(status: u16, body: &str) -> Self {
        Self { status, retry_after: None, api_level: 0, content_type: String::new(), body: body.as_bytes().to_vec() }
    }

    /// Whether the status is one of 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as one of the API's types.
    ///
    /// # Errors
    /// When it has another shape: the daemon may be of another version.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// The body as JSON, null when there is none.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        if self.body.is_empty() { Ok(Value::Null) } else { self.json() }
    }
}
