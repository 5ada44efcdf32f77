//! When somebody last asked for something: what a daemon that ends by itself goes by.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::authenticator::PROBES;

/// The time of the last request that was no probe.
#[derive(Debug)]
pub struct Activity(Mutex<Instant>);

impl Activity {
    /// Somebody started us: that counts as a request.
    #[must_use]
    pub fn from_now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// How long nobody has asked for anything.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Notices each request when it comes and when it has been answered. It stands behind the door, so that nobody who is refused
/// there, such as a page of another site, keeps a daemon alive.
pub(super) async fn notice(State(activity): State<Arc<Activity>>, request: Request, next: Next) -> Response {
    if PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    activity.end();
    let response = next.run(request).await;
    activity.end();
    response
}
