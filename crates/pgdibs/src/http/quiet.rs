//! When somebody last asked for something: what a daemon that ends by itself goes by.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::door::PROBES;

/// The time of the last request that was no probe.
#[derive(Debug)]
pub struct Quiet(Mutex<Instant>);

impl Quiet {
    /// Somebody started us: that counts as a request.
    #[must_use]
    pub fn from_now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// How long nobody has asked for anything.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Notices each request when it comes and when it has been answered. It stands behind the door, so that nobody who is refused
/// there, such as a page of another site, keeps a daemon alive.
pub(super) async fn notice(State(quiet): State<Arc<Quiet>>, request: Request, next: Next) -> Response {
    if PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    quiet.end();
    let response = next.run(request).await;
    quiet.end();
    response
}
