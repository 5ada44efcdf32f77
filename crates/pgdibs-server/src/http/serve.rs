//! The listener: accepts connections, bounds their number and their time, keeps a reserve for probes, and ends them at shutdown.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue, Method};
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::set_header::SetResponseHeaderLayer;

use super::extractors::BodyDeadline;
use super::phases::{BusyBody, ConnectionPhase, Connections, ObservedStream};
use super::reserve::{self, Reservation, Reserve};

/// What one client may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most ordinary connections at once. A waiter occupies one for as long as it waits.
    pub connections: usize,
    /// Most connections beyond that, in which only probes are answered.
    pub reserve: usize,
    /// A connection of the reserve is closed after this long, whatever it does.
    pub probe: Duration,
    /// A connection without a request is closed after this long.
    pub idle: Duration,
    /// A connection that does not send a whole request header within this time from its first byte is closed.
    pub header: Duration,
    /// A body that does not arrive as a whole within this time is refused.
    pub body: Duration,
    /// A connection that reads nothing of an answer for this long is closed.
    pub stalled: Duration,
    /// Waiters are answered at once when the daemon stops, so what is left after this long is stuck.
    pub shutdown: Duration,
}

impl Bounds {
    /// The bounds of a daemon that may have so many connections.
    #[must_use]
    pub fn with_connections(connections: usize) -> Self {
        let ten_seconds = Duration::from_secs(10);
        Self {
            connections,
            reserve: RESERVE,
            probe: Duration::from_secs(2),
            // More than the idle timeouts of common clients and proxies (60 s), so that the client closes a connection first.
            idle: Duration::from_secs(75),
            header: ten_seconds,
            body: ten_seconds,
            stalled: ten_seconds,
            shutdown: Duration::from_secs(5),
        }
    }
}

/// Connections of the reserve. Each costs one file and some kilobytes.
pub const RESERVE: usize = 64;

/// The size of the buffer for a header: one up to this size is accepted, one of twice the size is a 431. Bodies have their own bound.
const LARGEST_HEADER: usize = 64 * 1024;

/// After a failed accept (out of file descriptors) the next try waits this long, or the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that were busy at the shutdown deadline and were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut(pub usize);

/// That all connections are taken is logged at most this often.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// A connection that was told to close for another one has closed within this time, or has just got a request. A prober waits for a
/// second, and the new connection may be its.
const EVICTION: Duration = Duration::from_millis(900);

/// Largest header of a request in the reserve; the least that hyper allows.
const LARGEST_PROBE: usize = 8 * 1024;

/// Connections that the kernel completes before they are accepted; at most `net.core.somaxconn`. When a burst of connections fills
/// this queue, the kernel drops the next ones, and their callers try again only after a second.
const BACKLOG: u32 = 4096;

/// Listens on the first of the host's addresses that can be bound.
///
/// # Errors
/// The system's error for the last address, or for the host's name.
pub async fn bind(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let mut refused = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the host has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match bind_one(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn bind_one(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the standard library does, so that the port of a daemon that has just ended can be bound.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stopping`; then accepts no more, lets requests finish, and cuts what is left after `bounds.shutdown`.
pub async fn serve(bounds: Bounds, listener: TcpListener, router: Router, stopping: CancellationToken) -> Cut {
    let keep_alive = HeaderValue::from_str(&format!("timeout={}", bounds.idle.as_secs())).ok();
    let router = router.layer(Extension(BodyDeadline(bounds.body)));
    let probes = reserve::probes_only(router.clone(), bounds.connections);
    let router =
        router.layer(SetResponseHeaderLayer::if_not_present(HeaderName::from_static("keep-alive"), keep_alive));
    let permits = Arc::new(Semaphore::new(bounds.connections));
    let reserve = Reserve::of(bounds.reserve);
    let open = Connections::default();
    let mut warned_at: Option<Instant> = None;
    let connections = TaskTracker::new();
    let ends = Ends { stopping: stopping.clone(), cut: CancellationToken::new() };
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, ends) = (router.clone(), ends.clone());
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            let registered = open.add();
            connections.spawn(async move {
                serve_connection(stream, bounds, router, &registered.phase, ends).await;
                drop((registered, permit));
            });
            continue;
        }
        let closes_idle = open.close_longest_idle();
        if !closes_idle && warned_at.is_none_or(|at| at.elapsed() > WARN_INTERVAL) {
            tracing::warn!(limit = bounds.connections, "all connections are taken; new ones are answered probes only");
            warned_at = Some(Instant::now());
        }
        let Some(reservation) = reserve.enter().await else { continue };
        let (permits, open, probes) = (Arc::clone(&permits), open.clone(), probes.clone());
        connections.spawn(async move {
            // Not in the loop, which accepts the next connection meanwhile.
            let permit = if closes_idle { permit_within(EVICTION, permits, &reservation).await } else { None };
            let Some(permit) = permit else { return answer_probe(stream, bounds, probes, reservation, ends).await };
            drop(reservation);
            let registered = open.add();
            serve_connection(stream, bounds, router, &registered.phase, ends).await;
            drop((registered, permit));
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(bounds.shutdown, connections.wait()).await.is_ok() {
        return Cut(0);
    }
    let left = connections.len();
    tracing::warn!(left, "cutting connections that were busy at the shutdown deadline");
    ends.cut.cancel();
    connections.wait().await;
    Cut(left)
}

type BoxedAnswer<A> = Pin<Box<dyn Future<Output = A> + Send>>;

/// How connections end.
#[derive(Debug, Clone)]
struct Ends {
    /// After the current request.
    stopping: CancellationToken,
    /// At once.
    cut: CancellationToken,
}

async fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    // Answers go out in two parts (see `release_on_disconnect.rs`); the second must not wait for the first one's acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The permit of a connection that closes; `None` if none does in time, or another connection takes the reservation.
async fn permit_within(
    time: Duration,
    permits: Arc<Semaphore>,
    reservation: &Reservation,
) -> Option<OwnedSemaphorePermit> {
    let permit = permits.acquire_owned();
    tokio::select! {
        permit = tokio::time::timeout(time, permit) => permit.ok()?.ok(),
        () = reservation.evicted.cancelled() => None,
    }
}

async fn serve_connection(stream: TcpStream, bounds: Bounds, router: Router, phase: &Arc<ConnectionPhase>, ends: Ends) {
    // Only writing: a caller that waits for a database sends nothing for minutes.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(bounds.stalled));
    let stream = ObservedStream { stream: Box::pin(stream), phase: Arc::clone(phase) };
    let (service, answering) = (TowerToHyperService::new(router), Arc::clone(phase));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let is_last = is_last_of_process(&request);
        let (answer, busy) = (service.call(request), answering.answering());
        let answer = if is_last { until_done(answer) } else { Box::pin(answer) };
        async move { answer.await.map(|response| response.map(|body| BusyBody { body, busy })) }
    });
    // Without hyper's own limit for a header, which would also end idle connections.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(LARGEST_HEADER)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut check = tokio::time::interval(bounds.header / 8);
    let mut evicted = false;
    let ended = loop {
        tokio::select! {
            // First, so that an answer that becomes ready at the same moment carries `Connection: close`.
            biased;
            () = ends.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                break tokio::select! {
                    ended = connection => ended,
                    () = ends.cut.cancelled() => Ok(()),
                };
            }
            ended = connection.as_mut() => break ended,
            () = phase.evicted.cancelled(), if !evicted => {
                if phase.is_idle() {
                    break Ok(());
                }
                evicted = true;
            }
            _ = check.tick() => if phase.is_over(bounds.idle, bounds.header) || evicted && phase.is_idle() {
                break Ok(());
            },
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended in the middle");
    }
}

/// Whether a process may send this request as its last one, and not wait for the answer: a DELETE, or the report of its run. Such a request
/// neither waits nor grants.
fn is_last_of_process<B>(request: &hyper::Request<B>) -> bool {
    *request.method() == Method::DELETE
        || *request.method() == Method::POST && request.uri().path().ends_with("/report")
}

/// The answer of a task of its own, which goes on when the connection ends. Hyper drops an answer when the caller closes the connection,
/// even before its first poll. That ends the wait of a caller that has gone, but must not end the last request of a process.
fn until_done<A: Send + 'static>(answer: impl Future<Output = A> + Send + 'static) -> BoxedAnswer<A> {
    // Not within the returned future, which may never be polled.
    let task = tokio::spawn(answer);
    Box::pin(async move {
        match task.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
    })
}

/// One request in the reserve. The connection ends after it, after `bounds.probe`, or when another connection takes its place.
async fn answer_probe(stream: TcpStream, bounds: Bounds, router: Router, reservation: Reservation, ends: Ends) {
    let answering = Arc::clone(&reservation.answering);
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        answering.store(true, Ordering::Relaxed);
        service.call(request)
    });
    let connection = http1::Builder::new()
        .max_buf_size(LARGEST_PROBE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ending = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = reservation.evicted.cancelled() => Ok(()),
            () = ends.stopping.cancelled() => match reservation.answering.load(Ordering::Relaxed) {
                true => connection.as_mut().await,
                false => Ok(()),
            },
        }
    };
    if let Ok(Err(error)) = tokio::time::timeout(bounds.probe, ending).await {
        tracing::debug!(%error, "reserve connection ended in the middle");
    }
}
