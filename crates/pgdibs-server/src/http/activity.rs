//! The activity tracker: when the last request came, which decides when an idle daemon ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;

use super::authenticator::PROBES;

/// The time of the last request that was no probe.
#[derive(Debug)]
pub struct Activity(Mutex<Instant>);

impl Activity {
    /// The start of the daemon counts as a request.
    #[must_use]
    pub fn from_now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// The time since the last request.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        self.0.lock().elapsed()
    }

    fn touch(&self) {
        *self.0.lock() = Instant::now();
    }
}

/// Tracks each request when it comes and when it has been answered. It runs after authentication, so that a request that is refused
/// there, such as one of another site's page, keeps no daemon alive.
pub(super) async fn track(State(activity): State<Arc<Activity>>, request: Request, next: Next) -> Response {
    if PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    activity.touch();
    let response = next.run(request).await;
    activity.touch();
    response
}
