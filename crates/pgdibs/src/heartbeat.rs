//! The heartbeat: renews a lease as often as the daemon says, until the lease is over.

use std::time::Duration;

use pgdibs_api::lease::Lease;
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::error::{ApiError, Error};
use crate::path::segment;

/// However short the time to live, renewing must not become a load.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// After a renewal that failed. A daemon that restarts grants a full time to live, so there is time for several attempts.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What became of a renewal.
#[derive(Debug)]
pub enum Renewal {
    /// The lease is renewed again after renewals that failed.
    Recovered,
    /// A renewal failed; the next one follows within a second. Reported once until it has recovered.
    Failing(Error),
}

/// Renews one lease.
#[derive(Debug)]
pub struct Heartbeat {
    client: Client,
    path: String,
    pause: Duration,
}

impl Heartbeat {
    /// The heartbeat of `lease`.
    ///
    /// # Errors
    /// [`Error::Address`] when the lease's id cannot be part of a URL.
    pub fn of(client: Client, lease: &Lease) -> Result<Self, Error> {
        Ok(Self { client, path: format!("/v1/leases/{}/renew", segment(&lease.id)?), pause: pause_of(lease) })
    }

    /// Renews the lease until it is over, and returns the daemon's refusal. `report` is called when renewals begin to fail and when
    /// they work again.
    pub async fn run(mut self, mut report: impl FnMut(Renewal)) -> ApiError {
        let body = json!({});
        let mut failing = false;
        loop {
            // The daemon named this pause.
            tokio::time::sleep(if failing { self.pause.min(PAUSE_AFTER_FAILURE) } else { self.pause }).await;
            // A renewal that hangs must not keep the next one from being tried in time.
            let renewal = self.client.call(Method::POST, &self.path, Some(&body), Duration::ZERO);
            match tokio::time::timeout(self.pause.max(PAUSE_AFTER_FAILURE), renewal).await {
                Ok(Ok(response)) => {
                    if failing {
                        report(Renewal::Recovered);
                    }
                    failing = false;
                    self.pause = response.json().map_or(self.pause, |lease| pause_of(&lease));
                }
                Ok(Err(Error::Api(error))) if matches!(error.status, 404 | 410) => return error,
                Ok(Err(error)) if !failing => {
                    report(Renewal::Failing(error));
                    failing = true;
                }
                Ok(Err(_)) | Err(_) => failing = true,
            }
        }
    }
}

fn pause_of(lease: &Lease) -> Duration {
    Duration::try_from_secs_f64(lease.renew_after_seconds).unwrap_or(SHORTEST_PAUSE).max(SHORTEST_PAUSE)
}
