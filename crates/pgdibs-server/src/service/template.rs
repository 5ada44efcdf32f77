//! Templates: which caller builds, which ones wait, the seal, and the end.

use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::Error;
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::request::{BuildPlace, TemplatePut};
use pgdibs_core::template::{Template, TemplateState};
use secrecy::{ExposeSecret as _, SecretString};

use super::waiter::{Attempt, Waited, Waiter};
use super::{Current, Service};

/// Creating the build's database takes a second at most; sealing a large one takes longer (it is vacuumed).
const PLACE_DEADLINE: Duration = Duration::from_secs(60);
const SEAL_DEADLINE: Duration = Duration::from_secs(600);

/// The answer to "I need this template".
#[derive(Debug)]
pub enum Needed {
    /// It exists.
    Ready(Template),
    /// The caller is the builder.
    Build(Template, BuildPlace),
    /// Another builder is still at work.
    Building(Template),
}

impl<B: Backend + 'static> Service<B> {
    /// "I need this template": waits for another's build, or makes the caller the builder. `token` is the secret with which the
    /// builder will prove who it is.
    ///
    /// # Errors
    /// Unknown pool; on a pool with a source, any fingerprint but the current one; a build place that cannot be made.
    pub async fn put_template(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: &SecretString,
        wait: Duration,
    ) -> Result<Needed, Error> {
        self.tracked(async {
            let waiter = self.waiter(wait);
            if let Some(current) = self.current(pool)? {
                return self.wait_for_current(pool, fingerprint, &current, waiter).await;
            }
            let waited = waiter.wait(|| async {
                Ok(match self.backend.put_template(pool, fingerprint, holder, token.expose_secret()).await? {
                    TemplatePut::Building(template) => Attempt::Pending(template, None),
                    other => Attempt::Done(other),
                })
            });
            let template = match waited.await? {
                Waited::Done(TemplatePut::Yours(template)) => template,
                Waited::Done(TemplatePut::Ready(template)) => return ready(template),
                Waited::Done(TemplatePut::Building(template)) | Waited::Deadline(template) | Waited::Full(template) => {
                    return Ok(Needed::Building(template));
                }
            };
            self.wait_queue.wake_reconciler();
            let waiter = waiter.restarted(PLACE_DEADLINE);
            let waited = waiter.wait(|| async {
                let place = self.backend.build_place(template.id, token.expose_secret()).await?;
                Ok(place.map_or(Attempt::Pending((), None), Attempt::Done))
            });
            let error = match waited.await? {
                Waited::Done(place) => return Ok(Needed::Build(template, place)),
                Waited::Deadline(()) => {
                    Error::ServerUnavailable("the build's database could not be created in time".to_owned())
                }
                Waited::Full(()) => Error::TemplateBuilding(format!(
                    "the build's database is not there yet, and {}",
                    self.waiter_limit.why_full()
                )),
            };
            self.abandon_build(pool, fingerprint, token.expose_secret(), &error.to_string()).await?;
            Err(error)
        })
        .await
    }

    /// The fingerprint of a pool's current inputs, if it has a source here.
    pub(super) fn current(&self, pool: &PoolName) -> Result<Option<Fingerprint>, Error> {
        match self.sources.current(pool) {
            Current::NoSource => Ok(None),
            Current::Fingerprint(fingerprint) => Ok(Some(fingerprint)),
            Current::Unread(why) => Err(Error::TemplateBuilding(why)),
            Current::Failed(_, why) | Current::Unreadable(why) => Err(Error::TemplateFailed(why)),
        }
    }

    async fn wait_for_current(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        current: &Fingerprint,
        waiter: Waiter<'_>,
    ) -> Result<Needed, Error> {
        if fingerprint != current {
            return Err(Error::TemplateNotFound(format!(
                "pool \"{pool}\" is built from a source; its present inputs have fingerprint \"{current}\""
            )));
        }
        let waited = waiter.wait(|| async {
            let found = match self.template(pool, fingerprint).await {
                Ok(template) if template.state == TemplateState::Ready => return Ok(Attempt::Done(template)),
                Ok(template) => Some(template),
                Err(Error::TemplateNotFound(_)) => None,
                Err(error) => return Err(error),
            };
            self.current(pool)?;
            Ok(Attempt::Pending(found, None))
        });
        match waited.await? {
            Waited::Done(template) => ready(template),
            Waited::Deadline(Some(template)) => Ok(Needed::Building(template)),
            Waited::Deadline(None) => {
                Err(Error::TemplateBuilding(format!("pool \"{pool}\" is about to build its template")))
            }
            Waited::Full(_) => Err(Error::TemplateBuilding(format!(
                "pool \"{pool}\" builds its template, and {}",
                self.waiter_limit.why_full()
            ))),
        }
    }

    /// The newest template row of that fingerprint.
    ///
    /// # Errors
    /// Unknown pool or template.
    pub async fn template(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<Template, Error> {
        let snapshot = self.backend.take_snapshot().await?;
        if !snapshot.pools.iter().any(|p| &p.name == pool) {
            return Err(Error::pool_not_found(pool));
        }
        snapshot
            .templates
            .into_iter()
            .filter(|t| &t.pool == pool && &t.fingerprint == fingerprint)
            .max_by_key(|t| (t.state != TemplateState::Retiring, t.id))
            .ok_or_else(|| Error::TemplateNotFound(format!("pool \"{pool}\" has no template \"{fingerprint}\"")))
    }

    /// The newest template of that fingerprint, and the output of its build or, without one, its detail.
    ///
    /// # Errors
    /// Unknown pool or template.
    pub async fn template_log(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<(Template, String), Error> {
        let template = self.template(pool, fingerprint).await?;
        let log = self.backend.build_log(template.id).await?;
        let log = log.or_else(|| template.detail.clone()).unwrap_or_default();
        Ok((template, log))
    }

    /// Seals a build and waits until it is published.
    ///
    /// # Errors
    /// A stale token; a template that is not being built; a seal that failed.
    pub async fn seal(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<Template, Error> {
        self.tasks
            .track_future(async {
                let waiter = self.waiter(SEAL_DEADLINE);
                let waited = waiter.wait(|| async {
                    let template = self.backend.request_seal(pool, fingerprint, token).await?;
                    match template.state {
                        TemplateState::Ready => Ok(Attempt::Done(template)),
                        TemplateState::Failed => {
                            Err(Error::TemplateFailed(template.detail.unwrap_or_else(|| "the seal failed".to_owned())))
                        }
                        TemplateState::Building | TemplateState::Retiring => {
                            self.wait_queue.wake_reconciler();
                            Ok(Attempt::Pending((), None))
                        }
                    }
                });
                match waited.await? {
                    Waited::Done(template) => Ok(template),
                    Waited::Deadline(()) => {
                        Err(Error::TemplateBuilding("the template is still being sealed; ask again".to_owned()))
                    }
                    Waited::Full(()) => Err(Error::TemplateBuilding(format!(
                        "the template is being sealed, and {}",
                        self.waiter_limit.why_full()
                    ))),
                }
            })
            .await
    }

    /// As [`Backend::renew_build`].
    ///
    /// # Errors
    /// As there.
    pub async fn renew_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
    ) -> Result<Template, Error> {
        self.backend.renew_build(pool, fingerprint, token).await
    }

    /// The builder gives up: its waiters try again, and one of them becomes the builder.
    ///
    /// # Errors
    /// As [`Backend::abandon_build`].
    pub async fn abandon_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
        detail: &str,
    ) -> Result<(), Error> {
        self.backend.abandon_build(pool, fingerprint, token, detail).await?;
        let event = Event::of_pool(EventKind::TemplateFailed, pool).with_template(fingerprint.as_str());
        self.events.publish(event.because(detail));
        self.wake_everything();
        Ok(())
    }

    /// Abandons, in a task of its own, the build that was begun under this token, if there is one: its caller disconnected before it was
    /// answered.
    pub fn abandon_on_disconnect(&self, pool: PoolName, fingerprint: Fingerprint, token: SecretString) {
        let service = self.clone();
        self.tasks.spawn(async move {
            let why = "the builder hung up before the reply";
            match service.abandon_build(&pool, &fingerprint, token.expose_secret(), why).await {
                Ok(())
                | Err(
                    Error::BuildTokenStale(_)
                    | Error::TemplateNotBuilding(_)
                    | Error::TemplateNotFound(_)
                    | Error::PoolNotFound { .. },
                ) => {}
                Err(error) => {
                    tracing::warn!(%pool, %fingerprint, %error, "cannot abandon build of disconnected caller: it is lost by itself");
                }
            }
        });
    }

    /// Retires a template; its waiters are answered.
    ///
    /// # Errors
    /// As [`Backend::drop_template`].
    pub async fn drop_template(&self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<(), Error> {
        self.backend.drop_template(pool, fingerprint).await?;
        let event = Event::of_pool(EventKind::TemplateRetired, pool).with_template(fingerprint.as_str());
        self.events.publish(event.because("a caller dropped it"));
        self.wake_everything();
        Ok(())
    }
}

/// A template that is ready gives databases; the caller gets the reason of one that cannot.
fn ready(template: Template) -> Result<Needed, Error> {
    template.unready().map_or(Ok(Needed::Ready(template)), |why| Err(Error::TemplateFailed(why)))
}
