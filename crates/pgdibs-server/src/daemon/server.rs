//! The server that the daemon manages, embedded or given: how it starts, restarts and stops.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgdibs_embedded::{Embedded, EmbeddedError, SearchRoots, find_client_program};
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::connect::{self, ConnectError, ServerAddress};
use rand::RngExt as _;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::status::Status;
use crate::config::Config;
use crate::offline;

/// Why the daemon cannot use this server, in one sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error(transparent)]
    Given(#[from] ConnectError),
}

/// A server that was up.
pub(super) struct Server {
    /// `None` for a given server, and while the embedded one restarts.
    embedded: Mutex<Option<Embedded>>,
    address: ServerAddress,
    /// The directory of the server's own programs, when it is known.
    bin_dir: Option<PathBuf>,
    /// The data directory of the embedded server; `None` for a given server.
    data_dir: Option<PathBuf>,
}

/// The longest pause between two attempts to reach a server.
const MAX_PAUSE: Duration = Duration::from_secs(2);

impl Server {
    /// Starts or adopts the embedded server. Of a given server it only parses the URL.
    pub(super) async fn bring_up(config: &Config, status: &Status) -> Result<Self, ServerError> {
        if let Some(url) = &config.server_url {
            let address = ServerAddress::parse(url)?;
            return Ok(Self {
                embedded: Mutex::new(None),
                address,
                bin_dir: config.pg_bin_dir.clone(),
                data_dir: None,
            });
        }
        let embedded = start_embedded(config, status).await?;
        let address = ServerAddress::parse(&embedded.url())?.of_own_server(&embedded.socket_dir());
        let bin_dir = Some(embedded.bin_dir().to_owned());
        let data_dir = Some(embedded.data_dir().to_owned());
        Ok(Self { embedded: Mutex::new(Some(embedded)), address, bin_dir, data_dir })
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Opens the catalog; retries with back-off until the server is up.
    pub(super) async fn open(&self, config: &Config, status: &Status) -> Result<PgBackend, ServerError> {
        let mut pause = Duration::from_millis(50);
        let mut last_refusal = None;
        loop {
            // The id of this daemon among those of the server: random and positive.
            let instance = rand::rng().random_range(1..i32::MAX);
            let started = Instant::now();
            match connect::open(self.address.clone(), instance).await {
                Ok(connections) => {
                    return Ok(PgBackend::new(connections, config.disk_floor_bytes()));
                }
                Err(ConnectError::NotUp(why)) => {
                    status.reason(format!("waiting for the Postgres server at {}: {why}", self.address.shown()));
                    if pause >= Duration::from_secs(1) || started.elapsed() >= Duration::from_secs(1) {
                        tracing::warn!(why, "retrying to connect: the Postgres server does not answer yet");
                    }
                }
                // When a stack starts, the role may be created after the server is up.
                Err(error @ ConnectError::Refused(_)) => {
                    let message = error.to_string();
                    status.reason(message.clone());
                    if last_refusal.as_ref() != Some(&message) {
                        tracing::error!("retrying to connect: {message}");
                        last_refusal = Some(message);
                    }
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Until `stopping`: restarts the embedded server when it has exited, and creates the catalog of a server that lost its data.
    pub(super) async fn watch_over(
        &self,
        config: &Config,
        status: &Status,
        backend: &PgBackend,
        stopping: &CancellationToken,
    ) {
        let work = async {
            loop {
                if self.data_dir.is_some() {
                    self.wait_for_exit(status).await;
                    self.restart(config, status).await;
                } else {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                if status.is_unreachable() || self.data_dir.is_some() {
                    // A server with its data in memory restarts without the catalog.
                    match connect::prepare(&self.address).await {
                        Ok(()) => status.server_restarted(),
                        Err(ConnectError::NotUp(_)) => {}
                        Err(error @ (ConnectError::Refused(_) | ConnectError::Unusable(_))) => {
                            status.reason(error.to_string())
                        }
                    }
                }
            }
        };
        stopping.run_until_cancelled(work).await;
        tracing::debug!(instance = backend.instance(), "no longer watching the server");
    }

    async fn wait_for_exit(&self, status: &Status) {
        if let Some(embedded) = self.embedded.lock().await.as_ref() {
            embedded.exited().await;
            status.reason("restarting the embedded server: it exited".to_owned());
            tracing::warn!(log = embedded.log_tail(5), "restarting the embedded server: it exited");
        }
    }

    async fn restart(&self, config: &Config, status: &Status) {
        let mut slot = self.embedded.lock().await;
        // Dropped first, because it holds the lock of the data directory.
        drop(slot.take());
        let mut pause = Duration::from_millis(100);
        loop {
            match start_embedded(config, status).await {
                Ok(embedded) => {
                    *slot = Some(embedded);
                    return;
                }
                Err(error) => {
                    status.reason(error.to_string());
                    tracing::error!("cannot restart the embedded server: {error}");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// The data directory of the embedded server.
    pub(super) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// The path of a client program for this server; its bare name when it is not installed.
    pub(super) fn client_program(&self, name: &str) -> PathBuf {
        let found = find_client_program(name, self.bin_dir.clone(), &SearchRoots::of_this_system());
        found.unwrap_or_else(|| PathBuf::from(name))
    }

    /// Stops the embedded server, or keeps it running for the next daemon.
    pub(super) async fn release(&self, keep: bool) {
        let Some(embedded) = self.embedded.lock().await.take() else { return };
        let released = if keep {
            tracing::info!("keeping the embedded server for live leases: the next daemon adopts it");
            embedded.keep().await
        } else {
            embedded.stop().await
        };
        if let Err(error) = released {
            tracing::warn!("cannot stop the embedded server: {error}");
        }
    }
}

async fn start_embedded(config: &Config, status: &Status) -> Result<Embedded, EmbeddedError> {
    let started = offline::start_embedded(config, |progress| {
        tracing::info!("{progress}");
        status.reason(progress.to_string());
    });
    started.await
}
