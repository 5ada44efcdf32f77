//! The listener: accepts connections, bounds their number and their time, and ends them at shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::json::BodyDeadline;

/// What one client may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most connections at once. A waiter occupies one for as long as it waits; beyond this they queue in the kernel.
    pub connections: usize,
    /// A connection that does not send a whole request header within this time, idle or slow, is closed.
    pub header: Duration,
    /// A body that does not arrive as a whole within this time is refused.
    pub body: Duration,
    /// A connection that takes nothing of what we have to say for this long is closed.
    pub stalled: Duration,
    /// Waiters are answered at once when the daemon stops, so what is left after this long is stuck.
    pub shutdown: Duration,
}

impl Bounds {
    /// Those of a daemon that may have so many connections.
    #[must_use]
    pub fn with_connections(connections: usize) -> Self {
        let ten_seconds = Duration::from_secs(10);
        let shutdown = Duration::from_secs(5);
        Self { connections, header: ten_seconds, body: ten_seconds, stalled: ten_seconds, shutdown }
    }
}

/// What a connection may hold of a request that we have not read yet; a header that is larger is a 431. Bodies are bounded apart.
const LARGEST_HEADER: usize = 64 * 1024;

/// After a failed accept (out of file descriptors) the next try waits this long, or the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that were still busy at the end of the shutdown deadline and were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut(pub usize);

/// Serves until `stopping`; then accepts no more, lets requests finish, and cuts what is left after `bounds.shutdown`.
pub async fn serve(bounds: Bounds, listener: TcpListener, router: Router, stopping: CancellationToken) -> Cut {
    let router = router.layer(Extension(BodyDeadline(bounds.body)));
    let places = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = next(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let connection = converse(stream, bounds, router.clone(), stopping.clone(), cut.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(bounds.shutdown, connections.wait()).await.is_ok() {
        return Cut(0);
    }
    let left = connections.len();
    tracing::warn!(left, "connections were still busy at the end of the shutdown deadline and are cut");
    cut.cancel();
    connections.wait().await;
    Cut(left)
}

async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // Nobody closes the semaphore; were it closed, there would be no bound.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    // Answers go out in two parts (see `unanswered.rs`); the second must not wait for the first one's acknowledgement.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn converse(
    stream: TcpStream,
    bounds: Bounds,
    router: Router,
    stopping: CancellationToken,
    cut: CancellationToken,
) {
    // Only writing: a caller that waits for a database says nothing for minutes.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(bounds.stalled));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_buf_size(LARGEST_HEADER)
        .keep_alive(true)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended in the middle");
    }
}
