//! The suite: one backend, one server, one pool name, and the operations that most checks share.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::idle::run_until_idle;
use super::server::ConformanceServer;
use pgdibs_core::backend::Backend;
use pgdibs_core::database::{Database, DatabaseState};
use pgdibs_core::error::Error;
use pgdibs_core::lease::{Credentials, End, Lease, LeaseId};
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::{Acquire, Acquired, TargetTemplate, TemplatePut};
use pgdibs_core::snapshot::{PlannerContext, Snapshot};
use pgdibs_core::template::Template;

/// The environment of one check.
pub struct Suite<B, S> {
    /// The backend under test.
    pub backend: B,
    /// Access to its server.
    pub server: S,
    /// The name of the check's pool; random, so that checks do not interfere.
    pub pool: PoolName,
    /// The fingerprint of the template built last, which requests name unless they say otherwise.
    latest: Mutex<Fingerprint>,
    numbers: AtomicU64,
}

/// The planner's context without steps in progress and overdue leases.
#[must_use]
pub(super) fn idle_context() -> PlannerContext {
    PlannerContext { max_ttl: Duration::from_secs(3600), ..PlannerContext::default() }
}

impl<B: Backend, S: ConformanceServer> Suite<B, S> {
    /// The environment for one check.
    pub fn new(backend: B, server: S, pool: PoolName) -> Self {
        Self { backend, server, pool, latest: Mutex::new(fingerprint("first")), numbers: AtomicU64::new(0) }
    }

    /// Reconciles until the plan is empty; no step may fail.
    pub async fn idle(&self) {
        let failures = run_until_idle(&self.backend, &idle_context()).await;
        assert!(failures.is_empty(), "steps failed: {failures:#?}");
        expect("collect garbage", self.backend.collect_garbage().await);
    }

    /// Takes a snapshot.
    pub async fn snapshot(&self) -> Snapshot {
        expect("take_snapshot", self.backend.take_snapshot().await)
    }

    /// The pool's databases in one state.
    pub async fn in_state(&self, state: DatabaseState) -> Vec<Database> {
        let snapshot = self.snapshot().await;
        snapshot.databases.into_iter().filter(|d| d.pool == self.pool && d.state == state).collect()
    }

    /// The names of the pool's ready databases.
    pub async fn ready_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.in_state(DatabaseState::Ready).await.into_iter().map(|d| d.name.as_str().to_owned()).collect();
        names.sort();
        names
    }

    /// The pool's database names that exist on the server.
    pub async fn names_on_the_server(&self) -> Vec<String> {
        let snapshot = self.snapshot().await;
        let names = snapshot.server.into_values().map(|found| found.name);
        names.filter(|name| DatabaseName::recognise(&self.pool, name).is_some()).collect()
    }

    /// The name of a slot of the pool.
    pub fn slot(&self, slot: u32) -> String {
        DatabaseName::slot(&self.pool, slot).as_str().to_owned()
    }

    /// Creates the pool.
    pub async fn make_pool(&self, warm: u32, max: u32, spares: u32) {
        let patch = PoolPatch { warm: Some(warm), max: Some(max), spares: Some(spares), ..PoolPatch::default() };
        expect("put the pool", self.backend.put_pool(&self.pool, &patch).await);
    }

    /// Starts a build; the token is the holder.
    pub async fn begin_build(&self, fingerprint: &Fingerprint, holder: &str) -> Template {
        match self.backend.put_template(&self.pool, fingerprint, holder, holder).await {
            Ok(TemplatePut::Yours(template)) => template,
            other => panic!("{holder} is not the builder of \"{fingerprint}\": {other:?}"),
        }
    }

    /// Builds a template from the request to the publication; its clones contain [`schema_row`].
    pub async fn build(&self, fingerprint: &Fingerprint) -> Template {
        let template = self.begin_build(fingerprint, "builder").await;
        self.idle().await;
        let place = expect("the build place", self.backend.build_place(template.id, "builder").await);
        let Some(place) = place else { panic!("the build's database does not exist after the reconciliation") };
        let database = place.database.as_str();
        let mut session = expect("the builder's login", self.server.connect(&place.credentials, database).await);
        expect("migrations", self.server.write(&mut session, &schema_row(fingerprint)).await);
        self.server.disconnect(session).await;
        expect("the seal", self.backend.request_seal(&self.pool, fingerprint, "builder").await);
        self.idle().await;
        expect("the template built last", self.latest.lock()).clone_from(fingerprint);
        match self.backend.put_template(&self.pool, fingerprint, "reader", "reader").await {
            Ok(TemplatePut::Ready(found)) if found.id == template.id => found,
            other => panic!("template \"{fingerprint}\" is not ready: {other:?}"),
        }
    }

    /// Creates a pool with one template and its ready databases.
    pub async fn ready_pool(&self, warm: u32, max: u32, spares: u32) -> Fingerprint {
        let fingerprint = fingerprint("first");
        self.make_pool(warm, max, spares).await;
        self.build(&fingerprint).await;
        assert_eq!(self.ready_names().await.len(), warm as usize, "ready databases");
        fingerprint
    }

    /// A unique lease id.
    pub fn lease_id(&self) -> LeaseId {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let digest = Sha256::digest(format!("{}/{number}", self.pool).as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A unique run id.
    pub fn run_id(&self) -> String {
        self.lease_id().to_string()
    }

    /// A request without a key, for the template built last.
    pub fn acquire_request(&self) -> Acquire {
        Acquire {
            id: self.lease_id(),
            pool: self.pool.clone(),
            fingerprint: Some(expect("the template built last", self.latest.lock()).clone()),
            fingerprint_named: true,
            run: None,
            worker: None,
            alias: "default".to_owned(),
            holder: "conformance".to_owned(),
            exact_slot: false,
            ttl_seconds: 60,
        }
    }

    /// The request of a worker in a run.
    pub fn acquire_request_of(&self, run: &str, worker: &str) -> Acquire {
        Acquire { run: Some(run.to_owned()), worker: Some(worker.to_owned()), ..self.acquire_request() }
    }

    /// Acquires one lease without waiting.
    pub async fn take(&self, acquire_request: Acquire) -> Lease {
        match self.backend.acquire(&[acquire_request], None).await {
            Ok(Acquired::Granted(mut leases)) if leases.len() == 1 => leases.remove(0),
            other => panic!("no database was granted: {other:?}"),
        }
    }

    /// Requests one lease; the result must be a wait.
    pub async fn must_wait(&self, acquire_request: Acquire) -> TargetTemplate {
        match self.backend.acquire(&[acquire_request], None).await {
            Ok(Acquired::Wait(target)) => target,
            other => panic!("the caller does not have to wait: {other:?}"),
        }
    }

    /// Releases a lease.
    pub async fn release(&self, lease: &Lease) {
        let was_live = expect("release", self.backend.end_lease(lease.id, End::Released, "released").await);
        assert!(was_live, "lease {} was live", lease.id);
    }

    /// Connects as the holder of a lease.
    pub async fn enter(&self, lease: &Lease) -> S::Session {
        let Some(credentials) = &lease.credentials else { panic!("a live lease has credentials: {lease:?}") };
        expect("the lease's login", self.server.connect(credentials, &lease.database_name).await)
    }

    /// Connects as the holder, checks that the database equals its template, and writes a row. The session stays connected.
    pub async fn enter_clean_and_write(&self, lease: &Lease) -> S::Session {
        let mut session = self.enter(lease).await;
        let found = expect("a query", self.server.read(&mut session).await);
        assert_eq!(found, [schema_row(&lease.fingerprint)], "a leased database equals its template");
        expect("a write", self.server.write(&mut session, &format!("dirt of {}", lease.id)).await);
        session
    }

    /// Checks that a login can connect neither to the named databases nor to any other database of the pool.
    pub async fn assert_dead(&self, credentials: &Credentials, databases: &[&str]) {
        let mut names: BTreeSet<String> = databases.iter().map(|&name| name.to_owned()).collect();
        names.extend(self.names_on_the_server().await);
        for name in names {
            if self.server.connect(credentials, &name).await.is_ok() {
                panic!("login {} can still connect to {name}", credentials.user);
            }
        }
    }

    /// Drops the pool and checks that no databases, logins and rows of it remain.
    pub async fn finish(&self, logins_before: &[String]) {
        match self.backend.drop_pool(&self.pool, true).await {
            Ok(()) | Err(Error::PoolNotFound { .. }) => {}
            Err(error) => panic!("drop the pool: {error}"),
        }
        self.idle().await;
        let snapshot = self.snapshot().await;
        assert!(snapshot.pools.iter().all(|pool| pool.name != self.pool), "the row of the pool is deleted");
        assert!(snapshot.databases.iter().all(|d| d.pool != self.pool), "the rows of its databases are deleted");
        assert!(snapshot.templates.iter().all(|t| t.pool != self.pool), "the rows of its templates are deleted");
        assert_eq!(self.names_on_the_server().await, Vec::<String>::new(), "every database is dropped");
        let logins: BTreeSet<String> = self.server.logins().await.into_iter().collect();
        let before: BTreeSet<String> = logins_before.iter().cloned().collect();
        let left: Vec<&String> = logins.difference(&before).collect();
        assert!(left.is_empty(), "remaining logins: {left:?}");
    }
}

#[must_use]
pub(super) fn fingerprint(text: &str) -> Fingerprint {
    expect("a fingerprint", Fingerprint::parse(text))
}

/// The row that the builder of a template writes, so that every clone contains it.
#[must_use]
pub(super) fn schema_row(fingerprint: &Fingerprint) -> String {
    format!("schema {fingerprint}")
}

/// The value, or a panic with the operation and the error.
pub(super) fn expect<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}
