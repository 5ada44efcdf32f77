//! Settings for a test: a cluster, a role for the daemon on it, and a backend that leads there.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::Lease;
use pgdibs_core::name::{Fingerprint, PoolName};
use pgdibs_core::plan::{Step, plan};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::Acquire;
use pgdibs_core::snapshot::PlannerContext;
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::connect::{ServerAddress, open};
use pgdibs_postgres::membership::Membership;
use pgdibs_postgres::rights::Rights;
use pgdibs_postgres::sqlstate;
use pgdibs_testing::cluster::{Cluster, all_binaries};
use pgdibs_testing::conformance::idle::run_until_idle;
use pgdibs_testing::conformance::{ConformanceServer as _, Suite};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::external::External;

/// The role of a daemon that is no superuser.
pub(crate) const DAEMON: &str = "the daemon's";
const DAEMON_PASSWORD: &str = "d@emon";

pub(crate) type PgSuite = Suite<PgBackend, External>;

/// The planner's context without running steps and overdue leases.
pub(crate) fn nothing_under_way() -> PlannerContext {
    PlannerContext { max_ttl: Duration::from_secs(3600), ..PlannerContext::default() }
}

/// Makes the daemon's role, if it needs one; returns the URL to give to the daemon.
async fn role_for(cluster: &Cluster, rights: Rights) -> secrecy::SecretString {
    match rights {
        Rights::Superuser => return cluster.url().into(),
        Rights::DatabasesAndRoles => {
            cluster
                .sql(
                    "postgres",
                    &format!("create role \"{DAEMON}\" login createdb createrole password '{DAEMON_PASSWORD}'"),
                )
                .await;
        }
    }
    cluster.url_of(DAEMON, DAEMON_PASSWORD, "postgres").into()
}

static INSTANCES: AtomicI32 = AtomicI32::new(1);

/// Another daemon's backend on the cluster; it does not lead yet.
pub(crate) async fn another_backend(cluster: &Cluster, rights: Rights) -> PgBackend {
    let url = match rights {
        Rights::Superuser => cluster.url().into(),
        _ => cluster.url_of(DAEMON, DAEMON_PASSWORD, "postgres").into(),
    };
    let address = ServerAddress::parse(&url).unwrap();
    let instance = INSTANCES.fetch_add(1, Ordering::Relaxed);
    let connections = open(address, instance).await.unwrap_or_else(|error| panic!("{error}"));
    PgBackend::new(connections, 0)
}

/// A cluster with one leading daemon's backend, and the conformance suite for it.
pub(crate) struct Setting {
    pub(crate) suite: PgSuite,
    /// Without it, this daemon's tickets are those of a dead daemon.
    pub(crate) membership: Option<Membership>,
    pub(crate) cluster: Cluster,
    rights: Rights,
}

impl Setting {
    pub(crate) async fn on(cluster: Cluster, rights: Rights) -> Self {
        role_for(&cluster, rights).await;
        let backend = another_backend(&cluster, rights).await;
        assert_eq!(backend.facts().rights, rights);
        let membership = Some(backend.membership().await.unwrap());
        assert!(backend.acquire_leadership().await.unwrap(), "no other daemon leads");
        let suite = Suite::new(backend, External::of(&cluster), PoolName::parse("suite").unwrap());
        Self { suite, membership, cluster, rights }
    }

    /// Another daemon on the same server.
    pub(crate) async fn another_backend(&self) -> PgBackend {
        another_backend(&self.cluster, self.rights).await
    }

    /// Executes the planned steps of one kind alone.
    pub(crate) async fn only(&self, wanted: impl Fn(&Step) -> bool) {
        loop {
            let steps = plan(&self.suite.snapshot().await, &nothing_under_way());
            let steps: Vec<Step> = steps.into_iter().filter(&wanted).collect();
            if steps.is_empty() {
                return;
            }
            for (step, result) in steps.iter().zip(self.suite.backend.execute(&steps).await) {
                result.unwrap_or_else(|error| panic!("{step:?}: {error}"));
            }
        }
    }

    /// Executes all planned steps; returns the failures as text.
    pub(crate) async fn idle_with_failures(&self) -> Vec<String> {
        let failures = run_until_idle(&self.suite.backend, &nothing_under_way()).await;
        failures.into_iter().map(|(step, error)| format!("{step:?}: {error}")).collect()
    }

    /// Builds a template in which the builder runs this SQL, and takes a lease of it.
    pub(crate) async fn lease_of_build(&self, patch: &PoolPatch, fingerprint: &str, sql: &str) -> Lease {
        let (suite, fingerprint) = (&self.suite, Fingerprint::parse(fingerprint).unwrap());
        suite.backend.put_pool(&suite.pool, patch).await.unwrap_or_else(|error| panic!("{error}"));
        let template = suite.begin_build(&fingerprint, "one").await;
        suite.idle().await;
        let place = suite.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
        let mut session = suite.server.connect(&place.credentials, place.database.as_str()).await.unwrap();
        run(&mut session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        suite.server.disconnect(session).await;
        suite.backend.request_seal(&suite.pool, &fingerprint, "one").await.unwrap();
        suite.idle().await;
        suite.take(Acquire { fingerprint: Some(fingerprint), ..suite.acquire_request() }).await
    }

    /// The role as which the sessions of the pool's leases act.
    pub(crate) async fn pool_owner(&self) -> String {
        self.catalog_text("select owner from pools limit 1").await
    }

    /// Runs SQL in the catalog as the superuser.
    pub(crate) async fn catalog(&self, sql: &str) {
        self.cluster.sql("pgdibs", sql).await;
    }

    /// The one value of a query in the catalog, as text.
    pub(crate) async fn catalog_text(&self, sql: &str) -> String {
        self.cluster.text("pgdibs", sql).await
    }
}

/// Runs SQL; the error is its SQLSTATE.
pub(crate) async fn run(session: &mut PgConnection, sql: &str) -> Result<(), String> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await;
    done.map(|_| ()).map_err(|error| sqlstate::code(&error).unwrap_or_else(|| error.to_string()))
}

/// The one value of a query, as text.
pub(crate) async fn text(session: &mut PgConnection, sql: &str) -> String {
    let text = sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::text"))).fetch_one(session).await;
    text.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Runs a test on a fresh cluster of every Postgres to test with.
pub(crate) fn on_each_server(rights: Rights, test: impl AsyncFn(&Setting)) {
    on_each_server_with(&[], rights, test);
}

/// With settings of the server.
pub(crate) fn on_each_server_with(settings: &[&str], rights: Rights, test: impl AsyncFn(&Setting)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for binaries in all_binaries() {
        println!("on {}", binaries.dir.display());
        runtime.block_on(async {
            let cluster = Cluster::start_of(&binaries, settings);
            let setting = Setting::on(cluster, rights).await;
            test(&setting).await;
            setting.suite.backend.close().await;
        });
    }
}
