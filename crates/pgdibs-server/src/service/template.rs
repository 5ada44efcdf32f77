//! Templates over HTTP: who builds, who waits, and the seal.

use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::request::{BuildPlace, TemplatePut};
use pgdibs_core::template::{Template, TemplateState};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Current, Service, WaitOver};

/// Creating the build's database takes a second at most; sealing a large one takes longer (it is vacuumed).
const PLACE_DEADLINE: Duration = Duration::from_secs(60);
const SEAL_DEADLINE: Duration = Duration::from_secs(600);

/// The answer to "I need this template".
#[derive(Debug)]
pub enum Needed {
    /// It exists.
    Ready(Template),
    /// The caller is the builder.
    Build(Template, BuildPlace, SecretString),
    /// Somebody else is still building it.
    Building(Template),
}

impl<W: Backend + 'static> Service<W> {
    /// "I need this template": waits for another's build, or makes the caller the builder. `token` is the secret that the
    /// builder will prove itself with.
    ///
    /// # Errors
    /// Unknown pool; on a pool with a source, any fingerprint but the present one; a build place that cannot be made.
    pub async fn put_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: SecretString,
        wait: Duration,
    ) -> Result<Needed, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        // Tracked, so that the daemon leaves the server only when the waiter has been answered.
        self.tasks.track_future(self.put_template_in_turn(pool, fingerprint, holder, token, wait)).await
    }

    async fn put_template_in_turn(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: SecretString,
        wait: Duration,
    ) -> Result<Needed, Error> {
        let never = CancellationToken::new();
        let mut subscription = self.wait_queue.listen();
        let deadline = Instant::now() + wait;
        if let Some(current) = self.present(pool)? {
            return self.wait_for_present(pool, fingerprint, &current, deadline).await;
        }
        let mut place = None;
        let template = loop {
            let building = match self.backend.put_template(pool, fingerprint, holder, token.expose_secret()).await? {
                TemplatePut::Ready(template) => return Ok(Needed::Ready(template)),
                TemplatePut::Yours(template) => break template,
                TemplatePut::Building(template) => template,
            };
            place = place.or_else(|| self.waiter_limit.enter());
            if place.is_none() {
                return Ok(Needed::Building(building));
            }
            match self.wait(&mut subscription, deadline, &never).await {
                Ok(()) => {}
                Err(WaitOver::Deadline) => return Ok(Needed::Building(building)),
                Err(WaitOver::HungUp | WaitOver::NoPlace | WaitOver::Stopping) => return Err(Error::ShuttingDown),
            }
        };
        place = place.or_else(|| self.waiter_limit.enter());
        if place.is_none() {
            let why = format!("the build's database is not there yet, and {}", self.waiter_limit.is_full());
            self.backend.abandon_build(pool, fingerprint, token.expose_secret(), &why).await?;
            return Err(Error::TemplateBuilding(why));
        }
        self.wait_queue.wake_reconciler();
        let deadline = Instant::now() + PLACE_DEADLINE;
        loop {
            if let Some(place) = self.backend.build_place(template.id, token.expose_secret()).await? {
                return Ok(Needed::Build(template, place, token));
            }
            match self.wait(&mut subscription, deadline, &never).await {
                Ok(()) => {}
                Err(WaitOver::Deadline) => {
                    let why = "the build's database could not be created in time".to_owned();
                    self.backend.abandon_build(pool, fingerprint, token.expose_secret(), &why).await?;
                    return Err(Error::ServerUnavailable(why));
                }
                Err(WaitOver::HungUp | WaitOver::NoPlace | WaitOver::Stopping) => return Err(Error::ShuttingDown),
            }
        }
    }

    /// The fingerprint of a pool's present inputs, if it has a source here.
    fn present(&self, pool: &PoolName) -> Result<Option<Fingerprint>, Error> {
        match self.sources.current(pool) {
            Current::NoSource => Ok(None),
            Current::Wanted(fingerprint) => Ok(Some(fingerprint)),
            Current::Failed(_, why) | Current::Unreadable(why) => Err(Error::TemplateFailed(why)),
        }
    }

    async fn wait_for_present(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        current: &Fingerprint,
        deadline: Instant,
    ) -> Result<Needed, Error> {
        if fingerprint != current {
            return Err(Error::TemplateNotFound(format!(
                "pool \"{pool}\" is built from a source; its present inputs have fingerprint \"{current}\""
            )));
        }
        let never = CancellationToken::new();
        let mut subscription = self.wait_queue.listen();
        let mut place = None;
        loop {
            let found = self.template(pool, fingerprint).await;
            match found {
                Ok(template) if template.state == TemplateState::Ready => return Ok(Needed::Ready(template)),
                Ok(_) | Err(Error::TemplateNotFound(_)) => {}
                Err(error) => return Err(error),
            }
            self.present(pool)?;
            place = place.or_else(|| self.waiter_limit.enter());
            if place.is_none() {
                let full = self.waiter_limit.is_full();
                return Err(Error::TemplateBuilding(format!("pool \"{pool}\" builds its template, and {full}")));
            }
            match self.wait(&mut subscription, deadline, &never).await {
                Ok(()) => {}
                Err(WaitOver::Deadline) => {
                    return match found {
                        Ok(template) => Ok(Needed::Building(template)),
                        Err(_) => {
                            Err(Error::TemplateBuilding(format!("pool \"{pool}\" is about to build its template")))
                        }
                    };
                }
                Err(WaitOver::HungUp | WaitOver::NoPlace | WaitOver::Stopping) => return Err(Error::ShuttingDown),
            }
        }
    }

    /// The newest template row of that fingerprint.
    ///
    /// # Errors
    /// Unknown pool or template.
    pub async fn template(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<Template, Error> {
        let snapshot = self.backend.gather().await?;
        if !snapshot.pools.iter().any(|p| &p.name == pool) {
            return Err(Error::PoolNotFound(pool.to_string()));
        }
        snapshot
            .templates
            .into_iter()
            .filter(|t| &t.pool == pool && &t.fingerprint == fingerprint)
            .max_by_key(|t| (t.state != TemplateState::Retiring, t.id))
            .ok_or_else(|| Error::TemplateNotFound(format!("pool \"{pool}\" has no template \"{fingerprint}\"")))
    }

    /// Seals a build and waits until it is published.
    ///
    /// # Errors
    /// A stale token; a template that is not being built; a seal that failed.
    pub async fn seal(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        self.tasks.track_future(self.seal_in_turn(pool, fingerprint, token)).await
    }

    async fn seal_in_turn(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        let never = CancellationToken::new();
        let mut subscription = self.wait_queue.listen();
        let deadline = Instant::now() + SEAL_DEADLINE;
        let mut place = None;
        loop {
            let template = self.backend.request_seal(pool, fingerprint, token).await?;
            match template.state {
                TemplateState::Ready => return Ok(template),
                TemplateState::Failed => {
                    return Err(Error::TemplateFailed(template.detail.unwrap_or_else(|| "the seal failed".to_owned())));
                }
                TemplateState::Building | TemplateState::Retiring => {}
            }
            self.wait_queue.wake_reconciler();
            place = place.or_else(|| self.waiter_limit.enter());
            if place.is_none() {
                return Err(Error::TemplateBuilding(format!(
                    "the template is being sealed, and {}",
                    self.waiter_limit.is_full()
                )));
            }
            match self.wait(&mut subscription, deadline, &never).await {
                Ok(()) => {}
                Err(WaitOver::Deadline) => {
                    return Err(Error::TemplateBuilding("the template is still being sealed; ask again".to_owned()));
                }
                Err(WaitOver::HungUp | WaitOver::NoPlace | WaitOver::Stopping) => return Err(Error::ShuttingDown),
            }
        }
    }
}
