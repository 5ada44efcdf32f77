//! Builds the templates of pools with a source, again when their inputs change.
//!
//! It compares the inputs at each acquire without a fingerprint and every [`INTERVAL`], and builds as often as [`BuildRate`] allows. Acquires get the error of a failed build; the
//! daemon retries it when the inputs change, or at an acquire [`RETRY`] later. Each attempt starts with an empty database.

mod comparison;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgdibs_core::backend::Backend as _;
use pgdibs_core::error::Error;
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::inputs::Inputs;
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::request::{BuildPlace, TemplatePut};
use pgdibs_core::template::{TemplateId, TemplateState};
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::connect::ServerAddress;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::build_rate::{self, BuildRate};
use super::lock_wait::{self, LockWait, application_of_copy};
use super::source_database::SourceDatabase;
use crate::config::{Config, PoolConfig};
use crate::events::Events;
use crate::service::Current;
use crate::service::wait_queue::WaitQueue;
use crate::service::waiter::{Attempt, Waited, Waiter};
use pgdibs_sources::{
    BuildFailure, BuildPlan, BuildReport, BuildTarget, DatabaseCopy, Source, SourceFingerprint, SourceKind,
};

/// The interval at which inputs are compared without an acquire.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// An acquire retries a failed build after this time.
const RETRY: Duration = Duration::from_secs(5);

/// The time to wait for the database of a build, which usually takes less than a second.
const PLACE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time to wait for a seal, which vacuums everything that the build wrote.
const SEAL_TIMEOUT: Duration = Duration::from_secs(600);

/// So many objects that a copy lacks are logged; the others are in the build's output.
const LOGGED_WARNINGS: usize = 20;

/// A pool with a source, and the state of its builds.
struct SourcedPool {
    settings: PoolConfig,
    fingerprints: SourceFingerprint,
    database: SourceDatabase,
    rate: BuildRate,
    /// The sentence while a build waits because of the rate.
    delayed: Option<String>,
    /// What the last fingerprint is made of.
    inputs: Option<(Fingerprint, Inputs)>,
    building: Option<Fingerprint>,
    ready: Option<Fingerprint>,
    failed: Option<(Fingerprint, String, Instant)>,
    unreadable: Option<String>,
}

/// The pools of this daemon with a source.
pub(super) struct Builds {
    pools: BTreeMap<PoolName, Mutex<SourcedPool>>,
    backend: Arc<PgBackend>,
    wait_queue: Arc<WaitQueue>,
    events: Arc<Events>,
    address: ServerAddress,
    psql: PathBuf,
    timeout: Duration,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Builds {
    pub(super) fn new(
        config: &Config,
        backend: Arc<PgBackend>,
        wait_queue: Arc<WaitQueue>,
        events: Arc<Events>,
        address: ServerAddress,
        psql: PathBuf,
        stopping: CancellationToken,
    ) -> Self {
        let sourced = |pool: &PoolConfig| {
            let source = pool.source.clone()?;
            let state = SourcedPool {
                settings: pool.clone(),
                fingerprints: SourceFingerprint::new(source),
                database: SourceDatabase::default(),
                rate: BuildRate::default(),
                delayed: None,
                inputs: None,
                building: None,
                ready: None,
                failed: None,
                unreadable: None,
            };
            Some((pool.name.clone(), Mutex::new(state)))
        };
        Self {
            pools: config.pools.iter().filter_map(sourced).collect(),
            backend,
            wait_queue,
            events,
            address,
            psql,
            timeout: config.build_timeout_seconds.seconds(),
            stopping,
            tasks: TaskTracker::new(),
        }
    }

    /// Compares every pool's inputs and starts the necessary builds.
    pub(super) async fn refresh(self: &Arc<Self>) {
        for (pool, sourced) in &self.pools {
            let database = match &sourced.lock().fingerprints.source().kind {
                SourceKind::Database(name) => Some(name.clone()),
                _ => None,
            };
            if let Some(database) = database {
                let known = sourced.lock().database.clone();
                let read = known.read(&self.backend, &database).await;
                sourced.lock().database = read;
            }
            if let Current::Fingerprint(fingerprint) = self.compare(pool, Trigger::Timer)
                && let Err(error) = self.start_build(pool, sourced, fingerprint).await
            {
                tracing::debug!(%pool, %error, "cannot start a build yet");
            }
        }
    }

    /// The reasons why not every configured template is ready, for `/readyz`.
    pub(super) fn reasons(&self) -> Vec<String> {
        let reason = |(pool, sourced): (&PoolName, &Mutex<SourcedPool>)| {
            let sourced = sourced.lock();
            if let Some(why) = &sourced.unreadable {
                return Some(format!("pool {pool}: {why}"));
            }
            if let Some((_, why, _)) = &sourced.failed {
                return Some(format!("pool {pool}: {why}"));
            }
            if let Some(why) = &sourced.delayed {
                return Some(format!("pool {pool}: {why}"));
            }
            match (&sourced.building, &sourced.ready) {
                (Some(fingerprint), _) => Some(format!("pool {pool}: building template {fingerprint}")),
                (None, None) => Some(format!("pool {pool}: its template is not built yet")),
                (None, Some(_)) => None,
            }
        };
        self.pools.iter().filter_map(reason).collect()
    }

    /// Waits for the running builds, which have been cancelled.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn start_build(
        self: &Arc<Self>,
        pool: &PoolName,
        sourced: &Mutex<SourcedPool>,
        fingerprint: Fingerprint,
    ) -> Result<(), Error> {
        let goes_on = sourced.lock().building.is_some() || self.stopping.is_cancelled();
        if goes_on || self.is_delayed(pool, sourced, &fingerprint).await? {
            return Ok(());
        }
        let copy_of = match &sourced.lock().fingerprints.source().kind {
            SourceKind::Database(name) => Some(name.clone()),
            _ => None,
        };
        let token = uuid::Uuid::new_v4().to_string();
        let holder = format!("pgdibs {} (process {})", self.backend.instance(), std::process::id());
        match self.backend.put_own_template(pool, &fingerprint, &holder, &token, copy_of.as_deref()).await? {
            TemplatePut::Ready(template) => {
                let is_known = {
                    let mut sourced = sourced.lock();
                    sourced.failed = None;
                    sourced.ready.as_ref() == Some(&fingerprint)
                };
                if !is_known {
                    self.backend.make_current(&template).await?;
                    tracing::info!(%pool, %fingerprint, "the template is ready: nothing to build");
                    sourced.lock().ready = Some(fingerprint);
                }
            }
            // Another daemon builds the same source; waiters wait for its seal.
            TemplatePut::Building(_) => sourced.lock().ready = None,
            TemplatePut::Yours(template) => {
                let inputs = sourced.lock().inputs.clone().filter(|(of, _)| *of == fingerprint);
                if let Some((_, inputs)) = inputs
                    && let Err(error) = self.backend.record_inputs(template.id, &inputs).await
                {
                    tracing::debug!(%pool, %fingerprint, %error, "cannot record the inputs of a template");
                }
                let source = {
                    let mut sourced = sourced.lock();
                    sourced.rate.start(Instant::now());
                    sourced.building = Some(fingerprint.clone());
                    sourced.ready = None;
                    sourced.fingerprints.source().clone()
                };
                self.wait_queue.wake_reconciler();
                let (builds, pool) = (Arc::clone(self), pool.clone());
                self.tasks.spawn(async move { builds.build(&pool, fingerprint, template.id, &token, &source).await });
            }
        }
        Ok(())
    }

    /// Whether a build has to wait because of the rate. A template that exists, or that another daemon builds, does not.
    async fn is_delayed(
        &self,
        pool: &PoolName,
        sourced: &Mutex<SourcedPool>,
        fingerprint: &Fingerprint,
    ) -> Result<bool, Error> {
        let wait = sourced.lock().rate.wait(Instant::now());
        let delayed = !wait.is_zero() && {
            let templates = self.backend.take_snapshot().await?.templates;
            let is_live = |state| matches!(state, TemplateState::Ready | TemplateState::Building);
            !templates.iter().any(|t| &t.pool == pool && &t.fingerprint == fingerprint && is_live(t.state))
        };
        let why = delayed.then(|| {
            let every = build_rate::INTERVAL.as_secs();
            let next = wait.as_secs() + 1;
            format!("its inputs change all the time, so it is built every {every} s; the next build begins in {next} s")
        });
        let mut sourced = sourced.lock();
        if let (Some(why), None) = (&why, &sourced.delayed) {
            tracing::warn!(%pool, "delaying the build of a template: {why}");
        }
        if delayed {
            sourced.ready = None;
        }
        sourced.delayed = why;
        Ok(delayed)
    }

    async fn build(
        &self,
        pool: &PoolName,
        fingerprint: Fingerprint,
        template: TemplateId,
        token: &str,
        source: &Source,
    ) {
        let started = Instant::now();
        tracing::info!(%pool, %fingerprint, "building the template");
        let result = self.try_to_build(pool, &fingerprint, template, token, source).await;
        if let Some(sourced) = self.pools.get(pool) {
            let mut sourced = sourced.lock();
            sourced.building = None;
            match &result {
                Ok(()) => {
                    sourced.ready = Some(fingerprint.clone());
                    sourced.failed = None;
                }
                Err(_) if self.stopping.is_cancelled() => {}
                Err(why) => {
                    sourced.failed = Some((fingerprint.clone(), why.clone(), Instant::now()));
                }
            }
        }
        if let Err(why) = result {
            match self.backend.abandon_build(pool, &fingerprint, token, &why).await {
                Ok(()) => {
                    let event = Event::of_pool(EventKind::TemplateFailed, pool).with_template(fingerprint.as_str());
                    self.events.publish(event.taking(started.elapsed()).because(&why));
                }
                Err(error) => tracing::debug!(%pool, %error, "cannot abandon the failed build: it has been removed"),
            }
        }
        self.wait_queue.wake_reconciler();
        self.wait_queue.wake_all();
    }

    /// The error has the failed step and the last lines of its output.
    async fn try_to_build(
        &self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        template: TemplateId,
        token: &str,
        source: &Source,
    ) -> Result<(), String> {
        let place = self.place(template, token).await?;
        let mut target = BuildTarget {
            url: self.address.url_for(&place.credentials.user, &place.credentials.password, place.database.as_str()),
            host: self.address.host_and_port().0,
            port: self.address.host_and_port().1,
            user: place.credentials.user.clone(),
            password: place.credentials.password.clone(),
            database: place.database.to_string(),
            psql: self.psql.clone(),
            copied: None,
        };
        let content = async || self.backend.build_content(pool, template).await.map_err(|error| error.to_string());
        let empty = content().await?;
        let mut missing = Vec::new();
        if let SourceKind::Database(name) = &source.kind {
            let copying = self.prepare_copy(name, pool, template, &mut missing).await;
            target.copied = Some(copying.map_err(|error| error.to_string())?);
        }
        let read = source.clone();
        let planning = tokio::task::spawn_blocking(move || pgdibs_sources::plan(&read)).await;
        let failed = |failure: BuildFailure| format!("the build failed at {}: {}", failure.step, failure.detail);
        let plan = planning.map_err(|error| error.to_string())?.map_err(failed)?;
        let steps = plan.steps(source);
        tracing::info!(%pool, %fingerprint, "running {steps}");
        let result = self.run(source, plan, &target).await;
        let output = match &result {
            Ok(report) => {
                missing.extend(report.warnings.iter().cloned());
                &report.log
            }
            Err(failure) => &failure.log,
        };
        for what in missing.iter().take(LOGGED_WARNINGS) {
            tracing::warn!(%pool, %fingerprint, "not in the copy: {what}");
        }
        let mut log: String = missing.iter().map(|what| format!("not in the copy: {what}\n")).collect();
        log.push_str(output);
        if let Err(error) = self.backend.keep_build_log(template, &log).await {
            tracing::warn!(%pool, %fingerprint, %error, "cannot keep the output of a build");
        }
        result.map_err(|failure| match log.is_empty() {
            true => failed(failure),
            false => format!("{}\nthe whole output: pgdibs template log {pool}", failed(failure)),
        })?;
        if !source.allow_empty && content().await? == empty {
            return Err(format!(
                "the build made nothing: {steps} ran without an error and left no relation, type, function, extension, schema or setting; \
                 correct the source, or set `allow_empty = true` in [pools.{pool}.source] if the template is to be empty"
            ));
        }
        self.seal(pool, fingerprint, token).await
    }

    async fn place(&self, template: TemplateId, token: &str) -> Result<BuildPlace, String> {
        let waiter = Waiter::new(&self.wait_queue, PLACE_TIMEOUT).until_stopped(self.stopping.clone());
        let waited = waiter.wait(|| async {
            match self.backend.build_place(template, token).await {
                Ok(Some(place)) => Ok(Attempt::Done(place)),
                Ok(None) | Err(Error::ServerUnavailable(_)) => Ok(Attempt::Pending((), None)),
                Err(error) => Err(error),
            }
        });
        match waited.await {
            Ok(Waited::Done(place)) => Ok(place),
            Ok(_) => Err(format!("its database could not be created within {} s", PLACE_TIMEOUT.as_secs())),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn seal(&self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<(), String> {
        let waiter = Waiter::new(&self.wait_queue, SEAL_TIMEOUT).until_stopped(self.stopping.clone());
        let waited = waiter.wait(|| async {
            let template = match self.backend.request_seal(pool, fingerprint, token).await {
                Ok(template) => template,
                Err(Error::ServerUnavailable(_)) => return Ok(Attempt::Pending((), None)),
                Err(error) => return Err(error),
            };
            if matches!(template.state, TemplateState::Ready | TemplateState::Failed) {
                return Ok(Attempt::Done(template));
            }
            self.wait_queue.wake_reconciler();
            Ok(Attempt::Pending((), None))
        });
        match waited.await {
            Ok(Waited::Done(template)) if template.state == TemplateState::Ready => Ok(()),
            Ok(Waited::Done(template)) => Err(format!("the seal failed: {}", template.detail.unwrap_or_default())),
            Ok(_) => Err(format!("the template could not be sealed within {} s", SEAL_TIMEOUT.as_secs())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Gives the build what a dump does not have; adds what the copy lacks to `missing`.
    async fn prepare_copy(
        &self,
        name: &str,
        pool: &PoolName,
        template: TemplateId,
        missing: &mut Vec<String>,
    ) -> Result<DatabaseCopy, Error> {
        let objects = self.backend.left_out_of_copy(name).await?;
        for object in objects.iter().filter(|object| object.is_reported) {
            let why = if object.is_dependent { " (it depends on one that is left out)" } else { "" };
            missing.push(format!("{}{why}", object.description));
        }
        missing.extend(self.backend.copy_database_settings(name, pool, template).await?);
        let mut login = self.address.libpq_variables(name);
        login.push(("PGAPPNAME", application_of_copy(template).into()));
        let number = |number: i64| u32::try_from(number).unwrap_or_default();
        let left_out = objects.iter().map(|object| (number(object.class), number(object.oid))).collect();
        Ok(DatabaseCopy { name: name.to_owned(), login, left_out, template: template.0 })
    }

    /// Runs the steps. A copy that waits for a lock too long ends; its error names the holder.
    async fn run(&self, source: &Source, plan: BuildPlan, target: &BuildTarget) -> Result<BuildReport, BuildFailure> {
        let cancel = self.stopping.child_token();
        let deadline = source.timeout.unwrap_or(self.timeout);
        let mut building = std::pin::pin!(pgdibs_sources::build(source, plan, target, deadline, cancel.clone()));
        let (mut checks, mut waiting) = (tokio::time::interval(lock_wait::CHECK), LockWait::default());
        let result = loop {
            tokio::select! {
                result = &mut building => break result,
                _ = checks.tick(), if target.copied.is_some() => {
                    if let Some(copied) = &target.copied && waiting.check(&self.backend, copied).await {
                        cancel.cancel();
                    }
                }
            }
        };
        match (result, waiting.sentence()) {
            (Err(failure), Some(detail)) if failure.timed_out || failure.cancelled => {
                Err(BuildFailure { detail, ..failure })
            }
            (result, _) => result,
        }
    }
}

/// The cause of a comparison of the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Acquire,
    Timer,
}
