//! Release on disconnect: undoes a grant whose caller never gets the answer. A guard moves from the handler into the response body.

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::{Bytes, Frame, SizeHint};
use pgdibs_failpoint::{Failpoint, reach_at_once};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::api_error::ApiError;

/// Calls something when it is dropped, unless it was disarmed before.
pub(super) struct ReleaseOnDisconnect(Option<Box<dyn FnOnce() + Send>>);

impl ReleaseOnDisconnect {
    pub(super) fn then(undo: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(undo)))
    }

    /// The caller has the answer, or there is nothing to undo.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }

    /// The answer as JSON, in a body that keeps the guard until the last byte is written.
    pub(super) fn answer(self, status: StatusCode, answer: &impl Serialize) -> Result<Response, ApiError> {
        let text = serde_json::to_vec(answer)
            .map_err(|error| ApiError::from(pgdibs_core::error::Error::Internal(error.to_string())))?;
        let mut response = Response::new(Body::new(Guarded::new(text.into(), self)));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

impl Drop for ReleaseOnDisconnect {
    fn drop(&mut self) {
        // Undoing spawns a task; without a runtime the process is past its end and the catalog's own deadlines do the rest.
        if let Some(undo) = self.0.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            undo();
        }
    }
}

/// A body that holds its last byte back until everything before it has been written to the socket.
///
/// Hyper flushes while a body is pending. When the peer has disconnected, that flush fails, hyper drops the body, and the guard
/// acts. Without the last byte the answer cannot be read, so nothing that was received is ever undone. A disconnect in the
/// microseconds between the two writes is not noticed; that lease ends with its TTL.
struct Guarded {
    text: Bytes,
    pause: Option<JoinHandle<()>>,
    release: Option<ReleaseOnDisconnect>,
}

impl Guarded {
    fn new(text: Bytes, release: ReleaseOnDisconnect) -> Self {
        Self { text, pause: None, release: Some(release) }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let body = self.get_mut();
        if body.text.len() > 1 {
            reach_at_once(Failpoint::AcquireAnswering);
            let most = body.text.split_to(body.text.len() - 1);
            // A task of its own, because hyper polls a pending body twice in a row and a bare yield is over by then. When the task has
            // ended, the reactor has run, and a connection that the peer closed is known to be closed.
            body.pause = Some(tokio::spawn(tokio::task::yield_now()));
            return Poll::Ready(Some(Ok(Frame::data(most))));
        }
        if let Some(pause) = body.pause.as_mut() {
            // An aborted pause (the runtime is ending) is over as well.
            let _over = std::task::ready!(Pin::new(pause).poll(cx));
            body.pause = None;
        }
        if let Some(release) = body.release.take() {
            reach_at_once(Failpoint::AcquireLastByte);
            release.disarm();
        }
        if body.text.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut body.text)))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}
