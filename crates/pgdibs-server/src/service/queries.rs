//! What the edge asks of the service beside acquiring and resetting: undoing what a caller was never told of.

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::lease::{End, Lease, LeaseId};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::request::Announce;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Current, Service};

impl<W: Backend + 'static> Service<W> {
    /// Says what a run will need. On a pool with a source, no fingerprint stands for that of the present inputs.
    ///
    /// # Errors
    /// As [`Backend::announce`]; a source that cannot be built from.
    pub async fn announce(&self, announce: &Announce) -> Result<(), Error> {
        let mut announce = announce.clone();
        match self.sources.current(&announce.pool) {
            Current::NoSource => {}
            Current::Failed(_, why) | Current::Unreadable(why) => return Err(Error::TemplateFailed(why)),
            Current::Wanted(current) => {
                announce.fingerprint.get_or_insert(current);
            }
        }
        match self.backend.announce(&announce).await {
            // The source's build has not written its row yet; the announcement of the pool's newest template stands until then.
            Err(Error::TemplateNotFound(_)) if matches!(self.sources.current(&announce.pool), Current::Wanted(_)) => {
                announce.fingerprint = None;
                self.backend.announce(&announce).await
            }
            answer => answer,
        }
    }

    /// Renews a lease. A renewal that the server does not take, or whose caller hangs up before it does, is remembered, so that its lease
    /// does not end for that.
    ///
    /// # Errors
    /// As [`Backend::renew`].
    pub async fn renew(&self, id: LeaseId, ttl_seconds: Option<u64>) -> Result<Lease, Error> {
        let coming = self.wait_queue.renewal_comes(id);
        let renewed = self.backend.renew(id, ttl_seconds).await;
        if !matches!(renewed, Err(Error::ServerUnavailable(_))) {
            coming.answered();
        }
        renewed
    }

    /// Releases whatever was granted under these ids, which the daemon itself gave to the wishes of one request: its caller
    /// hung up. A lease that the caller held before has another id and is left alone.
    pub async fn release_requests(&self, ids: &[LeaseId]) {
        let mut released = false;
        for &id in ids {
            match self.backend.end_lease(id, End::Released, "the caller hung up before the reply").await {
                Ok(was_live) => released |= was_live,
                Err(Error::LeaseNotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(lease.id = %id, %error, "could not release a lease that nobody was told of; it expires by itself");
                }
            }
        }
        if released {
            self.wait_queue.wake_reconciler();
        }
    }

    /// Gives a build up whose token nobody was told, if one was begun under it.
    pub async fn abandon_on_disconnect(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &SecretString) {
        match self
            .backend
            .abandon_build(pool, fingerprint, token.expose_secret(), "the builder hung up before the reply")
            .await
        {
            Ok(()) => {
                self.wait_queue.wake_reconciler();
                self.wait_queue.wake_all();
            }
            Err(
                Error::BuildTokenStale(_)
                | Error::TemplateNotBuilding(_)
                | Error::TemplateNotFound(_)
                | Error::PoolNotFound(_),
            ) => {}
            Err(error) => {
                tracing::warn!(%pool, %fingerprint, %error, "could not give a build up that nobody was told of; it is lost by itself");
            }
        }
    }
}
