//! Presence: the connection by which a daemon shows that it lives, and hears what the other daemons of the server change.

use std::time::Duration;

use pgdibs_core::error::Error;
use sqlx::postgres::{PgListener, PgNotification, PgPool};

use crate::context::{PgBackend, answer};
use crate::shared_sql::MEMBERSHIP;

impl PgBackend {
    /// Shows that this daemon lives, and hears what the others change. Dropping the ear ends both.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn membership(&self) -> Result<Membership, Error> {
        self.within(self.join()).await
    }

    async fn join(&self) -> Result<Membership, Error> {
        // A pool of its own: a listener gives its connection back when it is dropped, and only a closed pool lets go of it.
        let listener_pool = self.connections.address.pool("pgdibs-ear", 1, 0);
        let mut listener = answer(PgListener::connect_with(&listener_pool).await)?;
        // A reconnect behind our back would lose the lock without a word.
        listener.eager_reconnect(false);
        answer(listener.listen("pgdibs").await)?;
        let locked: bool = answer(
            sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
                .bind(MEMBERSHIP)
                .bind(self.connections.instance)
                .fetch_one(&mut listener)
                .await,
        )?;
        if locked {
            Ok(Membership { listener, listener_pool, own: self.connections.instance.to_string() })
        } else {
            Err(Error::ServerUnavailable("the session of this daemon's last connection has not ended yet".to_owned()))
        }
    }
}

/// A connection that shows that this daemon lives.
pub struct Membership {
    listener: PgListener,
    listener_pool: PgPool,
    own: String,
}

/// After this long without a notice the ear is tested.
const SILENCE: Duration = Duration::from_millis(1500);

/// A test of the ear is answered within this time. Together it is known within five seconds when the line hangs, whatever anybody else
/// waits for just then.
const TEST: Duration = Duration::from_secs(3);

/// Why an ear hears nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenError {
    /// Its connection has ended.
    Ended,
    /// The server, or the line to it, gives no answer.
    NoAnswer,
}

impl Membership {
    /// Resolves when another daemon changed something.
    ///
    /// # Errors
    /// Nothing is heard any more, and why.
    pub async fn changed(&mut self) -> Result<(), ListenError> {
        loop {
            match tokio::time::timeout(SILENCE, self.listener.try_recv()).await {
                Ok(Ok(Some(notification))) if PgNotification::payload(&notification) == self.own => {}
                Ok(Ok(Some(_))) => return Ok(()),
                Ok(Ok(None) | Err(_)) => return Err(ListenError::Ended),
                // Nothing to hear, or a line that is dead.
                Err(_) => {
                    let asked = sqlx::query("select 1").execute(&mut self.listener);
                    match tokio::time::timeout(TEST, asked).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(_)) => return Err(ListenError::Ended),
                        Err(_) => return Err(ListenError::NoAnswer),
                    }
                }
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // Closed from this call on; the returned future would only wait for the listener to be gone.
        drop(self.listener_pool.close());
    }
}
