//! The daemon: brings the parts up in their order, and takes them down again. Every task is joined at the end.

mod builds;
mod client_programs;
mod files;
mod idle;
mod log;
mod notify;
mod server;
mod status;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgdibs_core::backend::Backend as _;
use pgdibs_core::name::PoolName;
use pgdibs_embedded::EmbeddedError;
use pgdibs_failpoint::{Point, reach};
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::connect::ServerAddress;
use pgdibs_postgres::membership::ListenError;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::builds::Builds;
use self::server::{Server, ServerError};
use self::status::Status;
use crate::config::{Config, PoolConfig};
use crate::endpoint_file::EndpointFile;
use crate::http;
use crate::reconciler::{Reconciler, Report};
use crate::service::wait_queue::WaitQueue;
use crate::service::waiter_limit::WaiterLimit;
use crate::service::{Address, Service};

/// Steps under way are given this long; with what leaving the server takes, an exit stays below 8 s (Docker waits for ten).
const SHUTDOWN: Duration = Duration::from_secs(4);

/// Tickets that could not be given up are looked for this often.
const FORGET: Duration = Duration::from_secs(1);

/// Dead rows in catalogs are looked for this often.
const VACUUM: Duration = Duration::from_secs(5);

/// What `serve` answers when the machine refuses the listening address or the server is unusable (sysexits: EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;

/// What it answers when another daemon has the data directory (EX_TEMPFAIL): `pgdibs run` then goes to that one.
pub const IN_USE: u8 = 75;

/// Why the daemon could not begin, in one sentence.
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

/// When a daemon ends that nobody tells to.
#[derive(Debug, Default)]
pub struct Ending {
    /// When nobody has used it for so long.
    pub when_idle: Option<Duration>,
    /// When this was cancelled, since whoever started it has gone, and nobody else holds anything.
    pub when_abandoned: Option<CancellationToken>,
}

/// Serves until a signal says otherwise, or until the ending that was asked for.
pub async fn serve(config: Config, ending: Ending) -> ExitCode {
    log::init(&config.log, config.log_format);
    match run(config, ending).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(config: Config, ending: Ending) -> Result<(), StartError> {
    let listener = listen(&config).await?;
    let listens = listener.local_addr().ok();
    let stopping = CancellationToken::new();
    let signals = Signals::wait_for(stopping.clone());
    let status = Arc::new(Status::new());
    let (stage, at_stage) = watch::channel(None);
    let authenticator =
        http::Authenticator { token: config.token.clone(), allowed_hosts: config.allowed_hosts.clone() };
    if let Some(abandoned) = ending.when_abandoned {
        tokio::spawn(idle::end_when_abandoned(at_stage.clone(), abandoned, stopping.clone()));
    }
    let activity = Arc::new(http::Activity::from_now());
    let router = http::router(
        at_stage,
        Arc::clone(&status) as Arc<dyn http::StatusSource>,
        authenticator,
        Arc::clone(&activity),
    );
    let idle = ending.when_idle.map(|after| (activity, after));
    let connections = files::connections();
    let bounds = http::Bounds::with_connections(connections);
    let http = tokio::spawn(http::serve(bounds, listener, router, stopping.clone()));
    notify::serving();

    // HTTP answers from here on: /livez yes, /readyz no, until the server is up.
    reach(Point::StartListening).await;
    let result = tokio::select! {
        result = with_server(&config, &status, &stage, &stopping, connections, idle, listens) => result,
        never = notify::stopping(&stopping) => match never {},
        () = signals.second() => {
            tracing::warn!("a second signal: exiting at once; what was under way is finished by the next daemon");
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
            std::io::ErrorKind::AddrInUse => "somebody else listens there (another pgdibs?)".to_owned(),
            _ => error.to_string(),
        },
        address: config.listen.to_string(),
    };
    let listener = http::bind(&config.listen.host, config.listen.port).await.map_err(fail)?;
    if config.insecure_no_token && config.token.is_none() && !config.listen.is_loopback() {
        tracing::warn!("whoever reaches this address gets databases: insecure_no_token is set and there is no token");
    }
    let bound = listener.local_addr().map_or(address, |a| a.to_string());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "pgdibs listens on http://{bound}");
    Ok(listener)
}

async fn with_server(
    config: &Config,
    status: &Arc<Status>,
    stage: &watch::Sender<Option<Service<PgBackend>>>,
    stopping: &CancellationToken,
    connections: usize,
    idle: Option<(Arc<http::Activity>, Duration)>,
    listens: Option<SocketAddr>,
) -> Result<(), StartError> {
    let server = tokio::select! {
        server = Server::bring_up(config, status) => server?,
        () = stopping.cancelled() => return Ok(()),
    };
    let backend = tokio::select! {
        backend = server.open(config, status) => Arc::new(backend?),
        () = stopping.cancelled() => {
            server.leave(config.stop_server, false).await;
            return Ok(());
        }
    };
    for warning in backend.facts().warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!(version = backend.facts().version, role = %backend.facts().role, "the server is up");
    if !backend.in_use_by_others().is_empty() {
        tracing::warn!(
            databases = backend.in_use_by_others().join(", "),
            "somebody works in databases of this server that are not pgdibs's; it never touches a database that it did not make: none is \
             dropped, renamed, closed or copied (but by a `database` source, which reads it), and none of its sessions is ended"
        );
    }

    let wait_queue = Arc::new(WaitQueue::default());
    let report: Arc<Mutex<Report>> = Arc::default();
    status.follow(Arc::clone(&report));
    let tasks = TaskTracker::new();
    let builds = Arc::new(Builds::new(
        config,
        Arc::clone(&backend),
        Arc::clone(&wait_queue),
        server.address().clone(),
        server.client_programs(),
        stopping.clone(),
    ));
    status.builds_are(Arc::clone(&builds));
    let service = Service {
        backend: Arc::clone(&backend),
        wait_queue: Arc::clone(&wait_queue),
        sources: Arc::clone(&builds) as Arc<dyn crate::service::Sources>,
        addresses: Arc::new(addresses(config, server.address())),
        // The other half is for those who renew, give back and look.
        waiter_limit: WaiterLimit::of(connections / 2),
        stopping: stopping.clone(),
        tasks: tasks.clone(),
    };
    tasks.spawn(hear_others(Arc::clone(&backend), Arc::clone(&wait_queue), Arc::clone(&report), stopping.clone()));
    tasks.spawn(end_blockers(Arc::clone(&backend), stopping.clone()));
    tasks.spawn(vacuum_catalogs(Arc::clone(&backend), stopping.clone()));
    tasks.spawn(forget_tickets(Arc::clone(&backend), Arc::clone(&wait_queue), stopping.clone()));
    if let Some((activity, after)) = idle {
        tasks.spawn(idle::end_when_idle(Arc::clone(&backend), activity, after, stopping.clone()));
    }
    // The reconciler goes on while waiters are being answered, and stops when nobody can need it any more.
    let driver_stops = CancellationToken::new();
    let reconciler = Reconciler::new(
        Arc::clone(&backend),
        Arc::clone(&wait_queue),
        config.max_ttl_seconds.seconds(),
        config.idle_seconds.seconds(),
        report,
    );
    let reconciler = tokio::spawn(reconciler.run(driver_stops.clone()));
    wait_queue.wake_reconciler();
    let mut pools = ConfiguredPools::new(config.pools.clone(), &backend, &wait_queue, status);
    // Before anybody can ask for them.
    pools.make().await;
    reach(Point::StartPoolsMade).await;
    let keeper = tokio::spawn(keep_pools(pools, Arc::clone(&builds), stopping.clone()));
    stage.send_replace(Some(service));
    // Not before: who hears "ready" asks for a lease at once.
    status.server_is(backend.facts(), backend.instance());
    if let (Some(listens), Some(data_dir)) = (listens, server.data_dir()) {
        EndpointFile::of(listens, backend.instance()).leave(data_dir);
    }
    reach(Point::StartServing).await;
    notify::server_is_up(&backend.facts().version);

    server.watch_over(config, status, &backend, stopping).await;

    if let Some(data_dir) = server.data_dir() {
        EndpointFile::forget(data_dir);
    }
    tracing::info!("shutting down: no new grants, waiters are answered");
    tasks.close();
    let orderly = async {
        tasks.wait().await;
        let _ = keeper.await;
        builds.finish().await;
        driver_stops.cancel();
        let _ = reconciler.await;
    };
    if tokio::time::timeout(SHUTDOWN, orderly).await.is_err() {
        tracing::warn!("some steps did not end in time; the next daemon finds and finishes them");
    }
    let live = tokio::time::timeout(Duration::from_millis(500), backend.gather()).await;
    // A server that does not tell may have leases; one that is kept for nothing stops itself.
    let leased = !matches!(&live, Ok(Ok(snapshot)) if snapshot.leases.is_empty());
    let farewell = async {
        backend.step_down().await;
        backend.close().await;
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), farewell).await;
    server.leave(config.stop_server, leased).await;
    Ok(())
}

/// Hears what other daemons on the server change, and shows that this one lives. Without it, our tickets count for nothing.
///
/// It also hears first when the line hangs: the reconciler may be in the middle of a step, and waits for that.
async fn hear_others(
    backend: Arc<PgBackend>,
    wait_queue: Arc<WaitQueue>,
    report: Arc<Mutex<Report>>,
    stopping: CancellationToken,
) {
    let work = async {
        loop {
            match backend.membership().await {
                Ok(mut membership) => {
                    wait_queue.wake_reconciler();
                    let deaf = loop {
                        match membership.changed().await {
                            Ok(()) => {
                                wait_queue.wake_reconciler();
                                wait_queue.wake_all();
                            }
                            Err(deaf) => break deaf,
                        }
                    };
                    if deaf == ListenError::NoAnswer {
                        // The reconciler takes it back as soon as it has got through.
                        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                        report.unreachable.get_or_insert_with(|| "it gives no answer".to_owned());
                    }
                    wait_queue.wake_reconciler();
                }
                Err(error) => tracing::debug!(%error, "cannot show presence yet"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stopping.cancelled() => {}
    }
}

/// Forgets tickets with which nobody waits any more: those that could not be given up when it was time.
async fn forget_tickets(backend: Arc<PgBackend>, wait_queue: Arc<WaitQueue>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(FORGET) => {}
            () = stopping.cancelled() => return,
        }
        match backend.forget_tickets_but(&wait_queue.waiting()).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::debug!(count, "forgot tickets with which nobody waits any more");
                wait_queue.wake_reconciler();
                wait_queue.wake_all();
            }
            Err(error) => tracing::debug!(%error, "cannot look for forgotten tickets"),
        }
    }
}

/// Beside everything else, which may be what is blocked.
async fn end_blockers(backend: Arc<PgBackend>, stopping: CancellationToken) {
    tokio::select! {
        () = backend.end_blockers() => {}
        () = stopping.cancelled() => {}
    }
}

/// Beside the reconciler, which must not wait for it.
async fn vacuum_catalogs(backend: Arc<PgBackend>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(VACUUM) => {}
            () = stopping.cancelled() => return,
        }
        match backend.vacuum_catalogs().await {
            Ok(due) => tracing::trace!(due, "looked for dead rows in catalogs"),
            Err(error) => tracing::debug!(%error, "cannot vacuum catalogs"),
        }
    }
}

/// Makes the configured pools, and keeps their templates those of the present inputs. Level-triggered: a server that came back
/// empty gets its pools again.
async fn keep_pools(mut pools: ConfiguredPools, builds: Arc<Builds>, stopping: CancellationToken) {
    loop {
        builds.look().await;
        tokio::select! {
            () = tokio::time::sleep(builds::EVERY) => {}
            () = stopping.cancelled() => return,
        }
        pools.make().await;
    }
}

/// The pools of the configuration, and what was said about those that could not be made.
struct ConfiguredPools {
    pools: Vec<PoolConfig>,
    backend: Arc<PgBackend>,
    wait_queue: Arc<WaitQueue>,
    status: Arc<Status>,
    complained: BTreeMap<PoolName, String>,
}

impl ConfiguredPools {
    fn new(
        pools: Vec<PoolConfig>,
        backend: &Arc<PgBackend>,
        wait_queue: &Arc<WaitQueue>,
        status: &Arc<Status>,
    ) -> Self {
        let (backend, wait_queue, status) = (Arc::clone(backend), Arc::clone(wait_queue), Arc::clone(status));
        Self { pools, backend, wait_queue, status, complained: BTreeMap::new() }
    }

    async fn make(&mut self) {
        for pool in &self.pools {
            let trouble = match make_pool(&self.backend, pool).await {
                Ok(made) => {
                    if made {
                        self.wait_queue.wake_reconciler();
                    }
                    self.complained.remove(&pool.name);
                    None
                }
                Err(error) => {
                    let sentence = error.to_string();
                    if self.complained.insert(pool.name.clone(), sentence.clone()).as_ref() != Some(&sentence) {
                        tracing::error!(pool = %pool.name, "{sentence}");
                    }
                    Some(sentence)
                }
            };
            self.status.pool_trouble(pool.name.as_str(), trouble);
        }
    }
}

/// Puts a configured pool when the catalog's differs. The flag says whether something changed.
async fn make_pool(backend: &PgBackend, pool: &PoolConfig) -> Result<bool, pgdibs_core::error::Error> {
    let patch = &pool.settings;
    let found = backend.gather().await?.pools.into_iter().find(|p| p.name == pool.name && !p.dropping);
    if let Some(found) = found
        && patch.apply(&found.settings)? == found.settings
        && patch.sourced.is_none_or(|sourced| sourced == found.sourced)
    {
        return Ok(false);
    }
    backend.put_pool(&pool.name, patch).await?;
    Ok(true)
}

/// The addresses handed out: those advertised, and by default the daemon's own way to the server.
fn addresses(config: &Config, own: &ServerAddress) -> BTreeMap<String, Address> {
    let (host, port) = own.host_and_port();
    let tls = own.tls_for_clients();
    let given = |address: &crate::config::HostPort| Address {
        host: address.host.clone(),
        port: address.port,
        tls: tls.clone(),
    };
    let mut addresses: BTreeMap<String, Address> =
        config.advertise.named.iter().map(|(name, address)| (name.clone(), given(address))).collect();
    let default = config.advertise.default.as_ref().map_or(Address { host, port, tls: tls.clone() }, given);
    addresses.entry("default".to_owned()).or_insert(default);
    addresses
}

/// SIGTERM and SIGINT: the first one asks for an orderly end, the second one for an end at once.
struct Signals {
    second: watch::Receiver<bool>,
}

impl Signals {
    fn wait_for(stopping: CancellationToken) -> Self {
        let (tell, second) = watch::channel(false);
        tokio::spawn(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                tracing::error!("cannot hear signals; end the daemon with SIGKILL, which is safe");
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
            tell.send_replace(true);
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
