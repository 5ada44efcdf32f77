//! The listener: accepts connections, bounds their number and their time, and ends them at shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What one client may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Most connections at once. A waiter occupies one for as long as it waits; beyond this they queue in the kernel.
    pub(super) connections: usize,
    /// A connection that does not send a whole request header within this time, idle or slow, is closed.
    pub(super) header: Duration,
    /// Waiters are answered at once when the daemon stops, so what is left after this long is stuck.
    pub(super) shutdown: Duration,
}

const BOUNDS: Bounds = Bounds { connections: 2000, header: Duration::from_secs(10), shutdown: Duration::from_secs(5) };

/// After a failed accept (out of file descriptors) the next try waits this long, or the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that were still busy at the end of the shutdown deadline and were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut(pub usize);

/// Serves until `stopping`; then accepts no more, lets requests finish, and cuts what is left after five seconds.
pub async fn serve(listener: TcpListener, router: Router, stopping: CancellationToken) -> Cut {
    serve_within(BOUNDS, listener, router, stopping).await
}

pub(super) async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    router: Router,
    stopping: CancellationToken,
) -> Cut {
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
                let connection = converse(stream, bounds.header, router.clone(), stopping.clone(), cut.clone());
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
    header: Duration,
    router: Router,
    stopping: CancellationToken,
    cut: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
