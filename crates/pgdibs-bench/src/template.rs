//! Builds the benchmark's template over HTTP, as a client does.

use crate::plain::Session;
use pgdibs::Method;
use serde_json::json;

use crate::api::{Api, POOL, Size};
use crate::error::{BenchError, while_doing};

/// Any string will do: the data directory is new.
const FINGERPRINT: &str = "bench-1";

/// The sealed template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) database: String,
    pub(crate) size_bytes: u64,
}

/// Puts the pool and its template, fills it and seals it.
pub(crate) async fn build(api: &Api) -> Result<Template, BenchError> {
    api.resize(Size { warm: 0, max: 1, spares: 0 }).await?;
    let path = format!("/v1/pools/{POOL}/templates/{FINGERPRINT}");
    let put = api.call(Method::PUT, &path, Some(&json!({"holder": "pgdibs-bench"}))).await?;
    let (Some(url), Some(token)) = (put["build"]["url"].as_str(), put["build"]["token"].as_str()) else {
        return Err(BenchError::Answer(format!("PUT {path} with something else than a build: {put}")));
    };
    let mut session = while_doing("the builder's login", Session::connect(url).await)?;
    while_doing("the template's tables", session.fill_template().await)?;
    while_doing("the builder's goodbye", session.close().await)?;
    let sealed = api.call(Method::POST, &format!("{path}/seal"), Some(&json!({"token": token}))).await?;
    match (sealed["database"].as_str(), sealed["size_bytes"].as_u64()) {
        (Some(database), Some(size_bytes)) => Ok(Template { database: database.to_owned(), size_bytes }),
        _ => Err(BenchError::Answer(format!("POST {path}/seal with something else than a template: {sealed}"))),
    }
}
