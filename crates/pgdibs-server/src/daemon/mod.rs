//! The daemon: starts its tasks in order, and stops and joins them.

mod build_rate;
mod builds;
mod files;
mod idle;
mod lock_wait;
mod log;
mod membership;
mod notify;
mod relay;
mod server;
mod source_database;
mod status;
mod trial_logins;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgdibs_core::backend::Backend as _;
use pgdibs_core::name::PoolName;
use pgdibs_core::pool::Pool;
use pgdibs_core::watch::LONGEST_PAUSE;
use pgdibs_embedded::EmbeddedError;
use pgdibs_failpoint::{Failpoint, reach};
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::connect::ServerAddress;
use pgdibs_postgres::doctor::{Extent, Severity};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::builds::Builds;
use self::server::{Server, ServerError};
use self::status::Status;
use crate::config::{Config, PoolConfig};
use crate::endpoint_file::EndpointFile;
use crate::events::Events;
use crate::http;
use crate::reconciler::{Reconciler, ReconcilerState};
use crate::service::wait_queue::WaitQueue;
use crate::service::{Address, Service};

/// The time that running steps have at shutdown. With the stop of the server, an exit stays below 8 s (Docker waits for ten).
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

/// The interval at which stale tickets are deleted, if there may be some.
const TICKET_CLEANUP: Duration = Duration::from_secs(2);

/// The interval at which the findings about the server are refreshed.
const EXAMINATION: Duration = Duration::from_secs(600);

/// The interval at which catalogs are checked for dead rows.
const VACUUM: Duration = Duration::from_secs(5);

/// The exit code of `serve` when it cannot listen or the server is unusable (sysexits: EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;

/// The exit code of `serve` when another daemon uses the data directory (EX_TEMPFAIL): `pgdibs run` then uses that daemon.
pub const IN_USE: u8 = 75;

/// Why the daemon could not start, in one sentence.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot listen on {address}: {why}; choose another address with --listen or PGDIBS_LISTEN")]
    Listen { address: String, why: String },
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl StartError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Server(ServerError::Embedded(EmbeddedError::InUse { .. })) => IN_USE,
            _ => UNAVAILABLE,
        }
    }
}

/// The conditions under which a daemon shuts down without a signal.
#[derive(Debug, Default)]
pub struct AutoShutdown {
    /// It got no request for this long, and nothing is in use.
    pub when_idle: Option<Duration>,
    /// The process that started it has exited and cancelled this token, and no lease, ticket or build is left.
    pub when_abandoned: Option<CancellationToken>,
}

/// Serves until a signal or a condition of `auto_shutdown` stops the daemon.
pub async fn serve(config: Config, auto_shutdown: AutoShutdown) -> ExitCode {
    log::init(&config.log, config.log_format);
    match run(config, auto_shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(config: Config, auto_shutdown: AutoShutdown) -> Result<(), StartError> {
    let listener = listen(&config).await?;
    let listens = listener.local_addr().ok();
    let stopping = CancellationToken::new();
    let signals = Signals::wait_for(stopping.clone());
    let status = Arc::new(Status::new());
    let (service_sender, service_receiver) = watch::channel(None);
    let authenticator =
        http::Authenticator { token: config.token.clone(), allowed_hosts: config.allowed_hosts.clone() };
    if let Some(abandoned) = auto_shutdown.when_abandoned {
        tokio::spawn(idle::shut_down_when_abandoned(service_receiver.clone(), abandoned, stopping.clone()));
    }
    let activity = Arc::new(http::Activity::from_now());
    let router = http::router(
        service_receiver,
        Arc::clone(&status) as Arc<dyn http::StatusSource>,
        authenticator,
        Arc::clone(&activity),
        Arc::clone(status.metrics()),
    );
    let idle = auto_shutdown.when_idle.map(|after| (activity, after));
    let connections = files::connections();
    let bounds = http::Bounds::with_connections(connections);
    let http = tokio::spawn(http::serve(bounds, listener, router, stopping.clone()));
    notify::serving();

    // From here on /livez answers 200, and /readyz 503 until the server is up.
    reach(Failpoint::StartListening).await;
    let result = tokio::select! {
        result = with_server(&config, &status, &service_sender, &stopping, connections, idle, listens) => result,
        never = notify::stopping(&stopping) => match never {},
        () = signals.second() => {
            tracing::warn!("exiting at once: second signal; the next daemon finishes interrupted steps");
            std::process::exit(130);
        }
    };
    stopping.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(2), http).await;
    result
}

async fn listen(config: &Config) -> Result<TcpListener, StartError> {
    let address = config.listen.to_string();
    let fail = |error: std::io::Error| StartError::Listen {
        why: match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process listens there (another pgdibs?)".to_owned(),
            _ => error.to_string(),
        },
        address: config.listen.to_string(),
    };
    let listener = http::bind(&config.listen.host, config.listen.port).await.map_err(fail)?;
    if config.insecure_no_token && config.token.is_none() && !config.listen.is_loopback() {
        tracing::warn!("the API needs no authentication: insecure_no_token is set and no token is configured");
    }
    let bound = listener.local_addr().map_or(address, |a| a.to_string());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "pgdibs listens on http://{bound}");
    Ok(listener)
}

async fn with_server(
    config: &Config,
    status: &Arc<Status>,
    service_sender: &watch::Sender<Option<Service<PgBackend>>>,
    stopping: &CancellationToken,
    connections: usize,
    idle: Option<(Arc<http::Activity>, Duration)>,
    listens: Option<SocketAddr>,
) -> Result<(), StartError> {
    let Some(server) = stopping.run_until_cancelled(Server::bring_up(config, status)).await else { return Ok(()) };
    let server = server?;
    let Some(backend) = stopping.run_until_cancelled(server.open(config, status)).await else {
        server.release(false).await;
        return Ok(());
    };
    let backend = Arc::new(backend?);
    let findings = backend.findings(Extent::Start).await;
    for finding in findings.findings.iter().filter(|finding| finding.severity >= Severity::Warning) {
        tracing::warn!(check = finding.check, "{}", finding.sentence());
    }
    status.set_findings(&findings);
    tracing::info!(version = backend.facts().version, role = %backend.facts().role, "the server is up");
    if !backend.in_use_by_others().is_empty() {
        tracing::info!(
            databases = backend.in_use_by_others().join(", "),
            "leaving the databases of others on this server alone: pgdibs does not drop, rename or close them, does not end their sessions, \
             and copies one only for a `database` source"
        );
    }

    let wait_queue = Arc::new(WaitQueue::default());
    let events = Arc::new(Events::of(backend.instance()).counted_by(Arc::clone(status.metrics())));
    let report: Arc<Mutex<ReconcilerState>> = Arc::default();
    status.set_report(Arc::clone(&report));
    let tasks = TaskTracker::new();
    let builds = Arc::new(Builds::new(
        config,
        Arc::clone(&backend),
        Arc::clone(&wait_queue),
        Arc::clone(&events),
        server.address().clone(),
        server.client_program("psql"),
        stopping.clone(),
    ));
    status.set_builds(Arc::clone(&builds));
    let service = Service::new(
        Arc::clone(&backend),
        Arc::clone(&wait_queue),
        Arc::clone(&builds) as Arc<dyn crate::service::Sources>,
        addresses(config, server.address()),
        // The other half of the connections is for requests that do not wait.
        connections / 2,
        stopping.clone(),
        tasks.clone(),
    )
    .with_events(Arc::clone(&events))
    .with_max_login(config.max_login())
    .with_metrics(Arc::clone(status.metrics()))
    .with_refused_pools(Arc::clone(status.refused_pools()));
    let membership =
        membership::keep(Arc::clone(&backend), Arc::clone(&wait_queue), Arc::clone(&report), Arc::clone(&events));
    tasks.spawn(relay::send(Arc::clone(&backend), Arc::clone(&events), stopping.clone()));
    tasks.spawn(stopping.clone().run_until_cancelled_owned(membership));
    // A task of its own, because the blocker may block the reconciler.
    let watching = Arc::clone(&backend);
    tasks.spawn(stopping.clone().run_until_cancelled_owned(async move { watching.end_blockers().await }));
    if server.data_dir().is_none() {
        tasks.spawn(trial_logins::run(Arc::clone(&backend), Arc::clone(status), stopping.clone()));
    }
    tasks.spawn(examine_server(Arc::clone(&backend), Arc::clone(status), stopping.clone()));
    tasks.spawn(vacuum_catalogs(Arc::clone(&backend), stopping.clone()));
    tasks.spawn(delete_stale_tickets(Arc::clone(&backend), Arc::clone(&wait_queue), stopping.clone()));
    if let Some((activity, after)) = idle {
        tasks.spawn(idle::shut_down_when_idle(Arc::clone(&backend), activity, after, stopping.clone()));
    }
    // The reconciler runs until waiters are answered and builds have ended.
    let reconciler_stops = CancellationToken::new();
    let reconciler = Reconciler::new(
        Arc::clone(&backend),
        Arc::clone(&wait_queue),
        config.max_ttl_seconds.seconds(),
        config.idle_seconds.seconds(),
        report,
    );
    let mut reconciler = reconciler.with_events(Arc::clone(&events));
    reconciler.metrics = Arc::clone(status.metrics());
    let reconciler = tokio::spawn(reconciler.run(reconciler_stops.clone()));
    wait_queue.wake_reconciler();
    let mut pools = ConfiguredPools::new(config.pools.clone(), &backend, &wait_queue, status);
    // Before the API serves requests.
    pools.apply().await;
    reach(Failpoint::StartPoolsMade).await;
    let pool_task = tokio::spawn(apply_pools(pools, Arc::clone(&builds), stopping.clone()));
    service_sender.send_replace(Some(service));
    // After the API serves requests: a client that sees "ready" requests a lease at once.
    status.server_up(backend.facts(), backend.instance());
    if let (Some(listens), Some(data_dir)) = (listens, server.data_dir()) {
        EndpointFile::of(listens, backend.instance()).write(data_dir);
    }
    reach(Failpoint::StartServing).await;
    notify::server_is_up(&backend.facts().version);

    server.watch_over(config, status, &backend, stopping).await;

    if let Some(data_dir) = server.data_dir() {
        EndpointFile::remove(data_dir);
    }
    tracing::info!("shutting down: no new grants, waiters are answered");
    tasks.close();
    let orderly = async {
        tasks.wait().await;
        let _ = pool_task.await;
        builds.finish().await;
        reconciler_stops.cancel();
        let _ = reconciler.await;
    };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, orderly).await.is_err() {
        tracing::warn!("exiting before all steps have ended: timeout; the next daemon finishes them");
    }
    let live = tokio::time::timeout(Duration::from_millis(500), backend.take_snapshot()).await;
    // A server that does not answer may have leases. If it has none, its supervisor stops it after the linger.
    let leased = !matches!(&live, Ok(Ok(snapshot)) if snapshot.leases.is_empty());
    let disconnect = async {
        backend.step_down().await;
        backend.close().await;
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), disconnect).await;
    server.release(leased && !config.stop_server).await;
    Ok(())
}

/// Deletes this daemon's tickets without a waiter: their deletion failed when the waiter left. Where no caller has waited since none was
/// left, it looks rarely: a server that hung may insert a ticket late.
async fn delete_stale_tickets(backend: Arc<PgBackend>, wait_queue: Arc<WaitQueue>, stopping: CancellationToken) {
    let mut none_left: Option<(u64, Instant)> = None;
    while stopping.run_until_cancelled(tokio::time::sleep(TICKET_CLEANUP)).await.is_some() {
        // The number is read first: a ticket that is taken from now on is for the next time.
        let (number, waiting) = wait_queue.tickets();
        if none_left.is_some_and(|(known, at)| known == number && at.elapsed() < LONGEST_PAUSE) {
            continue;
        }
        match backend.forget_tickets_but(&waiting).await {
            Ok((deleted, left)) => {
                if deleted > 0 {
                    tracing::debug!(deleted, "deleted tickets without a waiter");
                    wait_queue.wake_reconciler();
                }
                none_left = (left == 0).then(|| (number, Instant::now()));
            }
            Err(error) => tracing::debug!(%error, "cannot delete tickets without a waiter"),
        }
    }
}

/// Keeps the findings of the status fresh.
async fn examine_server(backend: Arc<PgBackend>, status: Arc<Status>, stopping: CancellationToken) {
    loop {
        let Some(report) = stopping.run_until_cancelled(backend.findings(Extent::Lasting)).await else { return };
        status.set_findings(&report);
        if stopping.run_until_cancelled(tokio::time::sleep(EXAMINATION)).await.is_none() {
            return;
        }
    }
}

/// A task of its own, because the reconciler must not wait for it.
async fn vacuum_catalogs(backend: Arc<PgBackend>, stopping: CancellationToken) {
    while stopping.run_until_cancelled(tokio::time::sleep(VACUUM)).await.is_some() {
        match backend.vacuum_catalogs().await {
            Ok(due) => tracing::trace!(due, "checked catalogs for dead rows"),
            Err(error) => tracing::debug!(%error, "cannot vacuum catalogs"),
        }
    }
}

/// Creates the configured pools and builds the templates of their present inputs, again and again: a server whose data was lost gets its
/// pools again.
async fn apply_pools(mut pools: ConfiguredPools, builds: Arc<Builds>, stopping: CancellationToken) {
    builds.refresh().await;
    while stopping.run_until_cancelled(tokio::time::sleep(builds::INTERVAL)).await.is_some() {
        pools.apply().await;
        builds.refresh().await;
    }
}

/// The pools of the configuration, and the logged errors of those that could not be created.
struct ConfiguredPools {
    pools: Vec<PoolConfig>,
    backend: Arc<PgBackend>,
    wait_queue: Arc<WaitQueue>,
    status: Arc<Status>,
    logged_errors: BTreeMap<PoolName, String>,
}

impl ConfiguredPools {
    fn new(
        pools: Vec<PoolConfig>,
        backend: &Arc<PgBackend>,
        wait_queue: &Arc<WaitQueue>,
        status: &Arc<Status>,
    ) -> Self {
        let (backend, wait_queue, status) = (Arc::clone(backend), Arc::clone(wait_queue), Arc::clone(status));
        Self { pools, backend, wait_queue, status, logged_errors: BTreeMap::new() }
    }

    async fn apply(&mut self) {
        let found = if self.pools.is_empty() { Ok(Vec::new()) } else { self.backend.pools().await };
        for pool in &self.pools {
            let applied = match &found {
                Ok(found) => apply_pool(&self.backend, pool, found).await,
                Err(error) => Err(error.clone()),
            };
            let error = match applied {
                Ok(changed) => {
                    if changed {
                        self.wait_queue.wake_reconciler();
                    }
                    self.logged_errors.remove(&pool.name);
                    None
                }
                Err(error) => {
                    let message = error.to_string();
                    if self.logged_errors.insert(pool.name.clone(), message.clone()).as_ref() != Some(&message) {
                        tracing::error!(pool = %pool.name, "cannot apply configured pool: {message}");
                    }
                    Some(message)
                }
            };
            self.status.refused_pools().set(&pool.name, error);
        }
    }
}

/// Puts a configured pool if the catalog's differs; returns whether it did.
async fn apply_pool(backend: &PgBackend, pool: &PoolConfig, found: &[Pool]) -> Result<bool, pgdibs_core::error::Error> {
    let patch = &pool.settings;
    if let Some(found) = found.iter().find(|p| p.name == pool.name && !p.dropping)
        && patch.apply(&found.settings)? == found.settings
        && patch.sourced.is_none_or(|sourced| sourced == found.sourced)
    {
        return Ok(false);
    }
    backend.put_pool(&pool.name, patch).await?;
    Ok(true)
}

/// The addresses in leases: the advertised ones, and as default the daemon's own.
fn addresses(config: &Config, own: &ServerAddress) -> BTreeMap<String, Address> {
    let (host, port) = own.host_and_port();
    let tls = own.tls_for_clients();
    let with_tls = |address: &crate::config::HostPort| Address {
        host: address.host.clone(),
        port: address.port,
        tls: tls.clone(),
    };
    let mut addresses: BTreeMap<String, Address> =
        config.advertise.named.iter().map(|(name, address)| (name.clone(), with_tls(address))).collect();
    let default = config.advertise.default.as_ref().map_or(Address { host, port, tls: tls.clone() }, with_tls);
    addresses.entry("default".to_owned()).or_insert(default);
    addresses
}

/// SIGTERM and SIGINT: the first one starts an orderly shutdown, the second one exits at once.
struct Signals {
    second: watch::Receiver<bool>,
}

impl Signals {
    fn wait_for(stopping: CancellationToken) -> Self {
        let (sender, second) = watch::channel(false);
        tokio::spawn(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                tracing::error!("cannot handle signals; stop the daemon with SIGKILL, which is safe");
                return;
            };
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            next().await;
            stopping.cancel();
            next().await;
            sender.send_replace(true);
        });
        Self { second }
    }

    async fn second(&self) {
        let mut second = self.second.clone();
        if second.wait_for(|second| *second).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
