//! Notifies the service manager (systemd's `Type=notify`) that the daemon serves, and that it stops.

use std::convert::Infallible;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// The API answers from here on. A unit counts as started then, as a container does: the daemon waits for a server that starts later, and
/// callers retry.
pub(super) fn serving() {
    send(&[NotifyState::Ready, NotifyState::Status("serving; waiting for the Postgres server")]);
}

/// The server is up too.
pub(super) fn server_is_up(version: &str) {
    send(&[NotifyState::Status(&format!("serving, on PostgreSQL {version}"))]);
}

/// Notifies when the daemon starts to stop; never returns.
pub(super) async fn stopping(stopping: &CancellationToken) -> Infallible {
    stopping.cancelled().await;
    send(&[NotifyState::Stopping, NotifyState::Status("stopping: answering waiters, finishing steps")]);
    std::future::pending().await
}

/// A daemon sends three messages, so the socket's queue never fills and this does not block. Without `NOTIFY_SOCKET` it does nothing.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager at NOTIFY_SOCKET");
    }
}
