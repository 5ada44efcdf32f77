//! The reserve: a few connections beyond the limit, on which probes are answered and everything else is refused.
//!
//! A caller that holds all ordinary connections, idle or waiting, thus cannot block a liveness probe. Nor can connections that fill the
//! reserve: each lives for a short time, and when the reserve is full, a new one replaces the oldest that is idle.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::{Extension, Router};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use pgdibs_api::problem::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::api_error::ApiError;
use super::authenticator::PROBES;
use super::layers;

/// Bytes of a refused request's body that are read. A connection that is closed with unread bytes may lose its answer.
const MOST_DISCARDED: usize = 64 * 1024;

/// The connections of the reserve.
#[derive(Debug)]
pub(super) struct Reserve {
    permits: Arc<Semaphore>,
    held: Arc<Mutex<VecDeque<Held>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Held {
    number: u64,
    answering: Arc<AtomicBool>,
    evicted: CancellationToken,
}

/// The right to one connection of the reserve, until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    number: u64,
    held: Arc<Mutex<VecDeque<Held>>>,
    /// Set once a request has come.
    pub(super) answering: Arc<AtomicBool>,
    /// Cancelled when another connection takes this reservation.
    pub(super) evicted: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Reserve {
    pub(super) fn of(size: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(size)), held: Arc::default(), next: AtomicU64::new(0) }
    }

    /// A reservation. When all are taken, the oldest connection without a request is evicted, else the oldest of all.
    ///
    /// Returns when the evicted connection is closed, so there are never more connections than reservations. For one caller at a time.
    pub(super) async fn enter(&self) -> Option<Reservation> {
        if self.permits.available_permits() == 0 {
            let held = self.held.lock();
            let idle = held.iter().find(|held| !held.answering.load(Ordering::Relaxed));
            if let Some(oldest) = idle.or(held.front()) {
                oldest.evicted.cancel();
            }
        }
        // Fails only when the semaphore is closed, which nothing does.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answering, evicted) = (Arc::<AtomicBool>::default(), CancellationToken::new());
        let held = Held { number, answering: Arc::clone(&answering), evicted: evicted.clone() };
        self.held.lock().push_back(held);
        Some(Reservation { number, held: Arc::clone(&self.held), answering, evicted, _permit: permit })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.held.lock().retain(|held| held.number != self.number);
    }
}

/// Answers probes as `router` does, and anything else with 503 `machine_busy`.
pub(super) fn probes_only(router: Router, connections: usize) -> Router {
    let refusing = layers::wrap(Router::new().fallback(refuse).layer(Extension(Limit(connections))));
    Router::new().fallback(move |request: Request| {
        let answering = if PROBES.contains(&request.uri().path()) { router.clone() } else { refusing.clone() };
        async move {
            let answered: Result<Response, Infallible> = answering.oneshot(request).await;
            match answered {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    })
}

/// Most ordinary connections at once.
#[derive(Debug, Clone, Copy)]
struct Limit(usize);

async fn refuse(Extension(Limit(connections)): Extension<Limit>, request: Request) -> ApiError {
    discard(request.into_body()).await;
    ApiError::new(
        Code::MachineBusy,
        format!(
            "this daemon has {connections} connections, which is the most it takes at once; close idle ones, or ask again"
        ),
    )
}

/// Reads a body to its end or to [`MOST_DISCARDED`]. The connection's deadline bounds how long that takes.
async fn discard(mut body: Body) {
    let mut left = MOST_DISCARDED;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, |data| data.len());
        if length > left {
            return;
        }
        left -= length;
    }
}
