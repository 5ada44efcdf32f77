//! Keeps a lease alive while its command runs.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, Client, ClientError};
use crate::output::message;
use crate::responses::Lease;

/// When the daemon does not say when to renew.
const DEFAULT_PAUSE: Duration = Duration::from_secs(20);
/// However short the time to live, renewing must not become a load.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// After a renewal that failed. A daemon that restarts grants a full time to live, so there is time for several attempts.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Renews the lease as often as the daemon says, until it is over. The command is never ended for it: it may not need its
/// database any more, and its user should see its own failure.
pub(super) async fn keep_alive(client: Client, lease: Lease) {
    let path = format!("/v1/leases/{}/renew", lease.id);
    let database = lease.database.clone();
    let mut pause = pause_of(&lease);
    let mut failing = false;
    let body = json!({});
    loop {
        // The daemon named this pause.
        tokio::time::sleep(if failing { pause.min(PAUSE_AFTER_FAILURE) } else { pause }).await;
        // A renewal that hangs must not keep the next one from being tried in time.
        let renewal = client.call(Method::POST, &path, Some(&body), Duration::ZERO);
        let renewed = tokio::time::timeout(pause.max(PAUSE_AFTER_FAILURE), renewal);
        match renewed.await {
            Ok(Ok(answer)) => {
                if failing {
                    message(&format!("the lease of {database} is renewed again"));
                }
                failing = false;
                pause = next_pause(&answer, pause);
            }
            Ok(Err(ClientError::Refused(api_error))) if matches!(api_error.status, 404 | 410) => {
                message(&format!("the lease of {database} is over while its command still runs: {api_error}"));
                return;
            }
            Ok(Err(error)) if !failing => {
                message(&format!("the lease of {database} could not be renewed, trying again: {error}"));
                failing = true;
            }
            Ok(Err(_)) => {}
            Err(_) => failing = true,
        }
    }
}

fn next_pause(answer: &Answer, before: Duration) -> Duration {
    answer.read::<Lease>().map_or(before, |lease| match lease.renew_after_seconds {
        Some(_) => pause_of(&lease),
        None => before,
    })
}

fn pause_of(lease: &Lease) -> Duration {
    let named = lease.renew_after_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    named.unwrap_or(DEFAULT_PAUSE).max(SHORTEST_PAUSE)
}
