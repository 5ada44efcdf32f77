//! The calls of a build by this program: announce, renew, abandon.

use std::time::Duration;

use pgdibs::{Client, Error as ClientError, Method, Response, segment};
use serde_json::{Value, json};

use super::context::Context;
use super::error::CliError;
use super::output::message;
use super::progress::Progress;

/// The daemon gives up a build after 60 s without a renewal or a session; three attempts fit.
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// Sealing vacuums the template; its duration depends on the template's size.
pub(super) const SEAL_TIMEOUT: Duration = Duration::from_secs(600);

/// Calls `PUT` for the template; when there is no such pool, creates it with these settings and calls again.
pub(super) async fn announce(
    context: &Context,
    (client, progress): (&Client, &Progress),
    (pool, path): (&str, &str),
    settings: &Value,
    body: &Value,
    wait: Duration,
) -> Result<Response, CliError> {
    match progress.call(client, Method::PUT, path, Some(body), wait).await {
        Err(error) if error.code() == Some("pool_not_found") => {
            client.call(Method::PUT, &format!("/v1/pools/{}", segment(pool)?), Some(settings), Duration::ZERO).await?;
            context.output.info(&format!("created the pool {pool}, which did not exist; `pgdibs pool set` changes it"));
            Ok(progress.call(client, Method::PUT, path, Some(body), wait).await?)
        }
        answer => Ok(answer?),
    }
}

pub(super) fn template_path(pool: &str, fingerprint: &str) -> Result<String, CliError> {
    Ok(format!("/v1/pools/{}/templates/{}", segment(pool)?, segment(fingerprint)?))
}

/// The error of a caller who has waited for the build of another one.
pub(super) fn still_building(pool: &str, answer: &Value) -> CliError {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or("unknown");
    let message = format!("{} has been building the template of {pool} since {}", text("holder"), text("since"));
    CliError::failed(message)
        .hint("wait longer with --wait; the daemon gives up a build whose builder is dead after 60 s")
}

/// Renews the build until the daemon refuses. It retries while the daemon does not answer.
pub(super) async fn renew_until_refused(client: &Client, path: &str, token: &str) -> ClientError {
    let body = json!({"token": token});
    loop {
        // The interval of renewals.
        tokio::time::sleep(RENEW_EVERY).await;
        let renewed = client.call(Method::POST, &format!("{path}/renew"), Some(&body), Duration::ZERO).await;
        if let Err(ClientError::Api(api_error)) = renewed
            && api_error.retry_after.is_none()
            && (400..500).contains(&api_error.status)
        {
            return ClientError::Api(api_error);
        }
    }
}

/// Reports a failed build. If the report does not arrive, the daemon gives up the build after 60 s.
pub(super) async fn abandon(client: &Client, path: &str, token: &str, detail: &str) {
    let body = json!({"token": token, "detail": detail});
    let answer = client.call(Method::POST, &format!("{path}/abandon"), Some(&body), Duration::ZERO).await;
    if let Err(error) = answer
        && error.code() != Some("build_token_stale")
    {
        message(&format!("cannot report the failed build to the daemon: {error}"));
    }
}
