//! Builds the benchmark's template through the API.

use crate::plain::Session;
use pgdibs::Method;
use serde_json::json;

use crate::api::{Api, Size};
use crate::error::{BenchError, context};

/// Any text: the data directory is new.
const FINGERPRINT: &str = "bench-1";

/// The sealed template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) database: String,
    pub(crate) size_bytes: u64,
}

/// Creates the pool, and fills and seals its template.
pub(crate) async fn build(api: &Api) -> Result<Template, BenchError> {
    api.resize(Size { warm: 0, max: 1, spares: 0 }).await?;
    let path = format!("{}/templates/{FINGERPRINT}", api.path());
    let put = api.call(Method::PUT, &path, Some(&json!({"holder": "pgdibs-bench"}))).await?;
    let (Some(url), Some(token)) = (put["build"]["url"].as_str(), put["build"]["token"].as_str()) else {
        return Err(BenchError::Answer(format!("PUT {path} without a build: {put}")));
    };
    let mut session = context("the builder's login", Session::connect(url).await)?;
    context("the template's tables", session.fill_template().await)?;
    context("the builder's disconnect", session.close().await)?;
    let sealed = api.call(Method::POST, &format!("{path}/seal"), Some(&json!({"token": token}))).await?;
    match (sealed["database"].as_str(), sealed["size_bytes"].as_u64()) {
        (Some(database), Some(size_bytes)) => Ok(Template { database: database.to_owned(), size_bytes }),
        _ => Err(BenchError::Answer(format!("POST {path}/seal without a template: {sealed}"))),
    }
}
