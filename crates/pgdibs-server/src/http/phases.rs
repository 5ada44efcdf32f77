//! What each connection does: it is idle, sends a request's header, or is busy. Bounds the first two, and closes the longest idle one.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper::body::{Bytes, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request has arrived.
    Idle,
    /// A part of a request's header has arrived.
    Header,
    /// A request is in progress.
    Busy,
    /// Its answer is complete, and not yet written to the socket.
    Writing,
}

/// The phase of one connection, and since when.
#[derive(Debug)]
pub(super) struct ConnectionPhase {
    current: Mutex<(Phase, Instant)>,
    /// Another connection takes its place.
    pub(super) evicted: CancellationToken,
}

impl ConnectionPhase {
    fn current(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.current.lock()
    }

    /// Bytes arrived. Those of a body, or of the next request, arrive while the connection is busy.
    fn received(&self) {
        let mut current = self.current();
        if current.0 == Phase::Idle {
            *current = (Phase::Header, Instant::now());
        }
    }

    /// Everything has been written to the socket.
    fn flushed(&self) {
        let mut current = self.current();
        if current.0 == Phase::Writing {
            *current = (Phase::Idle, Instant::now());
        }
    }

    /// A header is complete; the connection is busy until the guard is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> Busy {
        *self.current() = (Phase::Busy, Instant::now());
        Busy(Arc::clone(self))
    }

    /// Whether it is idle.
    pub(super) fn is_idle(&self) -> bool {
        self.current().0 == Phase::Idle
    }

    /// Whether it has been idle for `idle`, or sends a header for `header`.
    pub(super) fn is_over(&self, idle: Duration, header: Duration) -> bool {
        let (phase, since) = *self.current();
        match phase {
            Phase::Idle => since.elapsed() >= idle,
            Phase::Header => since.elapsed() >= header,
            Phase::Busy | Phase::Writing => false,
        }
    }
}

/// The answer is complete when this is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<ConnectionPhase>);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.current() = (Phase::Writing, Instant::now());
    }
}

/// A socket that reports what arrives and what has been written.
#[derive(Debug)]
pub(super) struct ObservedStream<S> {
    pub(super) stream: S,
    pub(super) phase: Arc<ConnectionPhase>,
}

impl<S: AsyncRead + Unpin> AsyncRead for ObservedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.phase.received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ObservedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.phase.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body of an answer; hyper drops it when it has buffered its last byte.
#[derive(Debug)]
pub(super) struct BusyBody {
    pub(super) body: Body,
    #[expect(dead_code, reason = "its end is what counts")]
    pub(super) busy: Busy,
}

impl http_body::Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// All open connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    phases: HashMap<u64, Arc<ConnectionPhase>>,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock()
    }

    /// Adds a connection, until the result is dropped.
    pub(super) fn add(&self) -> Registered {
        let phase = Arc::new(ConnectionPhase {
            current: Mutex::new((Phase::Idle, Instant::now())),
            evicted: CancellationToken::new(),
        });
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.phases.insert(number, Arc::clone(&phase));
        Registered { connections: self.clone(), number, phase }
    }

    /// Closes the connection that has been idle for the longest time; false when none is idle.
    pub(super) fn close_longest_idle(&self) -> bool {
        let open = self.open();
        let idle = open.phases.values().filter(|phase| phase.is_idle() && !phase.evicted.is_cancelled());
        let longest = idle.min_by_key(|phase| phase.current().1);
        if let Some(phase) = longest {
            phase.evicted.cancel();
        }
        longest.is_some()
    }
}

/// A connection among the others.
#[derive(Debug)]
pub(super) struct Registered {
    connections: Connections,
    number: u64,
    pub(super) phase: Arc<ConnectionPhase>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.open().phases.remove(&self.number);
    }
}
