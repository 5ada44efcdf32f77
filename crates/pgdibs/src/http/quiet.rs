//! When somebody last asked for something: what a daemon that ends by itself goes by.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
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

/// The router, with each request noticed when it comes and when it has been answered.
pub fn noticed(router: Router, quiet: Arc<Quiet>) -> Router {
    router.layer(from_fn_with_state(quiet, notice))
}

async fn notice(State(quiet): State<Arc<Quiet>>, request: Request, next: Next) -> Response {
    if PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    quiet.end();
    let response = next.run(request).await;
    quiet.end();
    response
}
