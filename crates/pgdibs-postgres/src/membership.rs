//! Membership: the connection by which a daemon shows that it runs, and on which it listens for changes by the server's other daemons.

use std::time::Duration;

use pgdibs_core::error::Error;
use sqlx::postgres::{PgListener, PgNotification, PgPool};
use tokio::time::timeout;

use crate::context::PgBackend;
use crate::error::Result;
use crate::priority::Priority;

/// First key of the two-key advisory lock of a member; the second key is its instance. ("pgdb", also in the view `living_daemons`)
const MEMBERSHIP: i32 = 1_885_824_098;

/// Its name on the server, by which the doctor learns the versions of a server's daemons.
const LISTENER: &str = concat!("pgdibs-listener ", env!("CARGO_PKG_VERSION"));

/// The channel of changes: a payload is the instance of the daemon that made one.
pub(crate) const CHANGES: &str = "pgdibs";

/// The channel of events.
pub(crate) const EVENTS: &str = "pgdibs_events";

/// After this long without a notification the connection is tested.
const SILENCE: Duration = Duration::from_millis(1500);

/// Timeout of a test. Together a dead connection is found within five seconds.
const TEST: Duration = Duration::from_secs(3);

impl PgBackend {
    /// Becomes a member and listens for changes. Dropping the value ends both.
    pub async fn membership(&self) -> Result<Membership, Error> {
        self.within(self.join_members()).await
    }

    async fn join_members(&self) -> Result<Membership> {
        // A pool of its own: a dropped listener gives its connection back, and only a closed pool ends it.
        let listener_pool = self.connections.address.pool(LISTENER, Priority::Normal, 1, 0);
        let mut listener = PgListener::connect_with(&listener_pool).await?;
        // A reconnect would silently lose the lock.
        listener.eager_reconnect(false);
        listener.listen_all([CHANGES, EVENTS]).await?;
        let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
            .bind(MEMBERSHIP)
            .bind(self.instance())
            .fetch_one(&mut listener)
            .await?;
        if locked {
            Ok(Membership { listener, listener_pool, own: self.instance().to_string() })
        } else {
            let what = "the session of this daemon's last connection has not ended yet";
            Err(Error::ServerUnavailable(what.to_owned()).into())
        }
    }
}

pub struct Membership {
    listener: PgListener,
    listener_pool: PgPool,
    own: String,
}

/// Why no more notifications arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenError {
    /// The connection has ended.
    Ended,
    /// The server or the network does not answer.
    NoAnswer,
}

/// A notification of a daemon.
#[derive(Debug, PartialEq, Eq)]
pub enum Notified {
    /// Another daemon changed something.
    Changed,
    /// What [`PgBackend::notify_events`] sent.
    Events(String),
}

impl Membership {
    /// The next notification.
    pub async fn notified(&mut self) -> Result<Notified, ListenError> {
        loop {
            match timeout(SILENCE, self.listener.try_recv()).await {
                Ok(Ok(Some(notification))) if PgNotification::payload(&notification) == self.own => {}
                Ok(Ok(Some(notification))) if notification.channel() == EVENTS => {
                    return Ok(Notified::Events(notification.payload().to_owned()));
                }
                Ok(Ok(Some(_))) => return Ok(Notified::Changed),
                Ok(Ok(None) | Err(_)) => return Err(ListenError::Ended),
                Err(_) => match timeout(TEST, sqlx::query("select 1").execute(&mut self.listener)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return Err(ListenError::Ended),
                    Err(_) => return Err(ListenError::NoAnswer),
                },
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // The call closes the pool; its future would only wait until the listener is dropped.
        drop(self.listener_pool.close());
    }
}
