//! Builds the templates of the benchmark through the API.

use crate::session::Session;
use pgdibs::Method;
use serde_json::json;

use crate::api::{Api, Size};
use crate::error::{BenchError, context};

/// 50 tables with rows.
pub(crate) const LARGE: &str = include_str!("template.sql");
/// One table, for a thousand databases.
pub(crate) const SMALL: &str =
    "create table items (id int primary key); insert into items select generate_series(1, 10)";

/// Any text: the pool is new.
const FINGERPRINT: &str = "bench-1";

/// Creates the pool, and fills and seals its template; returns its bytes. From then on the API compares each database with it.
pub(crate) async fn build(api: &mut Api, sql: &'static str) -> Result<u64, BenchError> {
    api.resize(Size { warm: 0, max: 1, spares: 0 }).await?;
    let path = format!("{}/templates/{FINGERPRINT}", api.path());
    let put = api.call(Method::PUT, &path, Some(&json!({"holder": "pgdibs-bench"}))).await?;
    let (Some(url), Some(token)) = (put["build"]["url"].as_str(), put["build"]["token"].as_str()) else {
        return Err(BenchError::Answer(format!("PUT {path} without a build: {put}")));
    };
    let mut session = context("the builder's login", Session::connect(url).await)?;
    context("the template's tables", session.run(sql).await)?;
    let (_, digest) = context("a query", session.inspect().await)?;
    context("the builder's disconnect", session.close().await)?;
    let sealed = api.call(Method::POST, &format!("{path}/seal"), Some(&json!({"token": token}))).await?;
    api.digest = digest;
    sealed["size_bytes"]
        .as_u64()
        .ok_or_else(|| BenchError::Answer(format!("POST {path}/seal without a size: {sealed}")))
}
