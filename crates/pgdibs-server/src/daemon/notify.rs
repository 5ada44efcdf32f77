//! What the service manager hears (systemd's `Type=notify`): that the daemon serves, and that it stops.

use std::convert::Infallible;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// HTTP answers from here on. As for containers, that is what "started" means: a server that comes up later is waited for, and
/// callers are told to try again, so a unit must not fail because of it.
pub(super) fn serving() {
    say(&[NotifyState::Ready, NotifyState::Status("serving; waiting for the Postgres server")]);
}

/// The server is up as well.
pub(super) fn server_is_up(version: &str) {
    say(&[NotifyState::Status(&format!("serving, on PostgreSQL {version}"))]);
}

/// Says so when the daemon begins to stop; ends never.
pub(super) async fn stopping(stopping: &CancellationToken) -> Infallible {
    stopping.cancelled().await;
    say(&[NotifyState::Stopping, NotifyState::Status("stopping: waiters are answered, steps under way are finished")]);
    std::future::pending().await
}

/// Three times in the life of a daemon, so the socket's queue never fills and this does not block. Without `NOTIFY_SOCKET`, nothing.
fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager at NOTIFY_SOCKET does not listen");
    }
}
