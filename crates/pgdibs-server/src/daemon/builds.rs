//! Builds the templates of pools with a source, again when their inputs change.
//!
//! It compares the inputs at each acquire without a fingerprint and every [`INTERVAL`]. Acquires get the error of a failed build; the
//! daemon retries it when the inputs change, or at an acquire [`RETRY`] later. Each attempt starts with an empty database.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgdibs_core::backend::Backend as _;
use pgdibs_core::error::Error;
use pgdibs_core::name::{Fingerprint, PoolName, RoleName};
use pgdibs_core::request::{BuildPlace, TemplatePut};
use pgdibs_core::template::{TemplateId, TemplateState};
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::connect::ServerAddress;
use secrecy::ExposeSecret as _;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, PoolConfig};
use crate::service::wait_queue::WaitQueue;
use crate::service::waiter::{Attempt, Waited, Waiter};
use crate::service::{Current, Sources};
use pgdibs_sources::{BuildFailure, BuildTarget, FingerprintContext, Source, SourceFingerprint, SourceKind};

/// The interval at which inputs are compared without an acquire.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// An acquire retries a failed build after this time.
const RETRY: Duration = Duration::from_secs(5);

/// The time to wait for the database of a build, which usually takes less than a second.
const PLACE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time to wait for a seal, which vacuums everything that the build wrote.
const SEAL_TIMEOUT: Duration = Duration::from_secs(600);

/// A pool with a source, and the state of its builds.
struct SourcedPool {
    settings: PoolConfig,
    fingerprints: SourceFingerprint,
    digest: String,
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
    address: ServerAddress,
    psql: PathBuf,
    pg_dump: PathBuf,
    timeout: Duration,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Builds {
    pub(super) fn new(
        config: &Config,
        backend: Arc<PgBackend>,
        wait_queue: Arc<WaitQueue>,
        address: ServerAddress,
        psql: PathBuf,
        pg_dump: PathBuf,
        stopping: CancellationToken,
    ) -> Self {
        let sourced = |pool: &PoolConfig| {
            let source = pool.source.clone()?;
            let state = SourcedPool {
                settings: pool.clone(),
                fingerprints: SourceFingerprint::new(source),
                digest: String::new(),
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
            address,
            psql,
            pg_dump,
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
                match self.backend.database_digest(&database).await {
                    Ok(digest) => sourced.lock().digest = digest,
                    Err(error) => {
                        sourced.lock().unreadable = Some(error.to_string());
                        continue;
                    }
                }
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
        if sourced.lock().building.is_some() || self.stopping.is_cancelled() {
            return Ok(());
        }
        let token = uuid::Uuid::new_v4().to_string();
        let holder = format!("pgdibs {} (process {})", self.backend.instance(), std::process::id());
        match self.backend.put_own_template(pool, &fingerprint, &holder, &token).await? {
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
                let source = {
                    let mut sourced = sourced.lock();
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
                    tracing::info!(%pool, %fingerprint, seconds = started.elapsed().as_secs_f64(), "built the template");
                    sourced.ready = Some(fingerprint.clone());
                    sourced.failed = None;
                }
                Err(_) if self.stopping.is_cancelled() => {}
                Err(why) => {
                    tracing::error!(%pool, %fingerprint, "cannot build the template: {why}");
                    sourced.failed = Some((fingerprint.clone(), why.clone(), Instant::now()));
                }
            }
        }
        if let Err(why) = result
            && let Err(error) = self.backend.abandon_build(pool, &fingerprint, token, &why).await
        {
            tracing::debug!(%pool, %error, "cannot abandon the failed build: it has been removed");
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
        let target = BuildTarget {
            url: self.address.url_for(&place.credentials.user, &place.credentials.password, place.database.as_str()),
            host: self.address.host_and_port().0,
            port: self.address.host_and_port().1,
            user: place.credentials.user.clone(),
            password: place.credentials.password.clone(),
            database: place.database.to_string(),
            psql: self.psql.clone(),
        };
        // The file exists until psql has read it.
        let mut dump = None;
        let mut source = source.clone();
        let content = async || self.backend.build_content(pool, template).await.map_err(|error| error.to_string());
        let empty = content().await?;
        if let SourceKind::Database(name) = &source.kind {
            self.backend.copy_database_settings(name, pool, template).await.map_err(|error| error.to_string())?;
            let file = self.dump(name).await?;
            source.kind = SourceKind::SqlFile(file.path().to_owned());
            dump = Some(file);
        }
        let deadline = source.timeout.unwrap_or(self.timeout);
        let failed = |failure: BuildFailure| format!("the build failed at {}: {}", failure.step, failure.detail);
        let (read, own) = (source.clone(), dump.is_none());
        let planning = tokio::task::spawn_blocking(move || pgdibs_sources::plan(&read)).await;
        let plan = planning.map_err(|error| error.to_string())?.map_err(failed)?;
        let steps = if own { plan.steps(&source) } else { "a copy of the database".to_owned() };
        tracing::info!(%pool, %fingerprint, "running {steps}");
        pgdibs_sources::build(&source, plan, &target, deadline, self.stopping.clone()).await.map_err(failed)?;
        drop(dump);
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

    /// Dumps a database without owners and grants, because its objects will belong to the template's owner. `create database … template`
    /// would fail while a session is connected to the database, which is usual for a developer's.
    async fn dump(&self, database: &str) -> Result<tempfile::NamedTempFile, String> {
        let file =
            tempfile::NamedTempFile::new().map_err(|error| format!("cannot create a file for the dump: {error}"))?;
        let mut command = Command::new(&self.pg_dump);
        command.args(["--no-owner", "--no-privileges", "--no-comments", "--format=plain", "--file"]).arg(file.path());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let login = self.address.libpq_variables(database);
        command.envs(login.iter().map(|(name, value)| (name, value.expose_secret()))).kill_on_drop(true);
        let output = command.output().await.map_err(|error| {
            format!(
                "cannot run {}: {error}; install Postgres's client programs or set pg_bin_dir",
                self.pg_dump.display()
            )
        })?;
        if output.status.success() {
            return Ok(file);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.lines().rev().take(10).collect();
        Err(format!(
            "pg_dump of database \"{database}\" failed:\n{}",
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        ))
    }
}

/// The cause of a comparison of the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Acquire,
    Timer,
}

impl Sources for Builds {
    fn current(&self, pool: &PoolName) -> Current {
        self.compare(pool, Trigger::Acquire)
    }
}

impl Builds {
    fn compare(&self, pool: &PoolName, trigger: Trigger) -> Current {
        let Some(sourced) = self.pools.get(pool) else { return Current::NoSource };
        let mut sourced = sourced.lock();
        let sourced = &mut *sourced;
        let settings = &sourced.settings.settings;
        let owner = settings.owner.clone().unwrap_or_else(|| RoleName::of_pool(pool));
        let extensions: Vec<String> = settings.extensions.iter().flatten().map(ToString::to_string).collect();
        let locale = [&settings.locale, &settings.encoding, &settings.icu_locale].map(Option::as_deref);
        let roles: Vec<String> = settings.roles.iter().flatten().map(ToString::to_string).collect();
        let context = FingerprintContext {
            server_major: self.backend.facts().major,
            database_digest: &sourced.digest,
            extensions: &extensions,
            locale: locale.map(Option::unwrap_or_default),
            roles: &roles,
            owner: owner.as_str(),
        };
        // An unchanged file costs one system call; changed ones are read here, which for migrations takes a few milliseconds.
        let fingerprint = match sourced.fingerprints.current(&context) {
            Ok(text) => text,
            Err(error) => {
                let why = error.to_string();
                sourced.unreadable = Some(why.clone());
                return Current::Unreadable(why);
            }
        };
        sourced.unreadable = None;
        let Ok(fingerprint) = Fingerprint::parse(&fingerprint) else {
            return Current::Unreadable("the fingerprint of the inputs is malformed".to_owned());
        };
        if let Some((failed, why, at)) = &sourced.failed
            && *failed == fingerprint
        {
            if trigger == Trigger::Timer || at.elapsed() < RETRY {
                return Current::Failed(fingerprint, why.clone());
            }
            sourced.failed = None;
        }
        Current::Fingerprint(fingerprint)
    }
}
