//! The server that the daemon manages: the embedded one, or the one it was given; how it comes up and how it is left.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgdibs_embedded::{Embedded, EmbeddedError, Leave};
use pgdibs_postgres::backend::PgBackend;
use pgdibs_postgres::connect::{self, ConnectError, ServerAddress};
use rand::RngExt as _;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::client_programs::ClientPrograms;
use super::status::Status;
use crate::config::Config;
use crate::offline;

/// Why the daemon cannot serve on this server, in one sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error(transparent)]
    Given(#[from] ConnectError),
}

/// A server that is up, or was a moment ago.
pub(super) struct Server {
    /// `None` for a server that was given.
    embedded: Mutex<Option<Embedded>>,
    is_embedded: bool,
    address: ServerAddress,
    client_programs: ClientPrograms,
    /// Where the embedded server's data is.
    data_dir: Option<PathBuf>,
}

/// Longest pause between two tries to reach a server that is not up yet.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Server {
    /// Starts or adopts the embedded server; of a given one only the URL is read here.
    pub(super) async fn bring_up(config: &Config, status: &Status) -> Result<Self, ServerError> {
        if let Some(url) = &config.server_url {
            let address = ServerAddress::parse(url)?;
            return Ok(Self {
                embedded: Mutex::new(None),
                is_embedded: false,
                address,
                client_programs: ClientPrograms::new(config.pg_bin_dir.clone()),
                data_dir: None,
            });
        }
        let embedded = start_embedded(config, status).await?;
        let address = ServerAddress::parse(&embedded.url())?.through_socket(&embedded.socket_dir());
        let client_programs = ClientPrograms::new(Some(embedded.bin_dir().to_owned()));
        let data_dir = Some(embedded.data_dir().to_owned());
        Ok(Self { embedded: Mutex::new(Some(embedded)), is_embedded: true, address, client_programs, data_dir })
    }

    /// How to reach the server.
    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Opens the catalog, with back-off while the server is not up yet.
    pub(super) async fn open(&self, config: &Config, status: &Status) -> Result<PgBackend, ServerError> {
        let mut pause = Duration::from_millis(50);
        let mut refusal = None;
        loop {
            // Positive, and different in each process: what tells two daemons on one server apart.
            let instance = rand::rng().random_range(1..i32::MAX);
            let began = Instant::now();
            match connect::open(self.address.clone(), instance).await {
                Ok(connections) => {
                    return Ok(PgBackend::new(connections, u64::from(config.disk_floor_mb.0) << 20));
                }
                Err(ConnectError::NotUp(why)) => {
                    status.reason(format!("waiting for the Postgres server: {why}"));
                    if pause >= Duration::from_secs(1) || began.elapsed() >= Duration::from_secs(1) {
                        tracing::warn!(why, "the Postgres server does not answer yet; trying again");
                    }
                }
                // In a stack that starts all at once, the role may be made after the server has come up.
                Err(error @ ConnectError::Refused(_)) => {
                    let sentence = error.to_string();
                    status.reason(sentence.clone());
                    if refusal.as_ref() != Some(&sentence) {
                        tracing::error!("{sentence}; trying again until it lets us in");
                        refusal = Some(sentence);
                    }
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Until `stopping`: starts the embedded server again when it died, and makes the catalog of a server that came back empty.
    pub(super) async fn watch_over(
        &self,
        config: &Config,
        status: &Status,
        backend: &PgBackend,
        stopping: &CancellationToken,
    ) {
        let work = async {
            loop {
                if self.is_embedded {
                    self.until_it_dies(status).await;
                    self.start_again(config, status).await;
                } else {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                if status.is_unreachable() || self.is_embedded {
                    // A server whose data was in memory comes back without our catalog.
                    match connect::prepare(&self.address).await {
                        Ok(()) => status.server_is_back(),
                        Err(ConnectError::NotUp(_)) => {}
                        Err(error @ (ConnectError::Refused(_) | ConnectError::Unusable(_))) => {
                            status.reason(error.to_string())
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stopping.cancelled() => {}
        }
        tracing::debug!(instance = backend.instance(), "no longer watching the server");
    }

    async fn until_it_dies(&self, status: &Status) {
        if let Some(embedded) = self.embedded.lock().await.as_ref() {
            embedded.stopped().await;
            status.reason("the embedded server died; starting it again".to_owned());
            tracing::warn!(log = embedded.log_tail(5), "the embedded server died; starting it again");
        }
    }

    async fn start_again(&self, config: &Config, status: &Status) {
        let mut slot = self.embedded.lock().await;
        // Dropped first: it holds the right to the data directory.
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
                    tracing::error!("{error}");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The data directory that this daemon has to itself.
    pub(super) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// Where the client programs for this server are.
    pub(super) fn client_programs(&self) -> &ClientPrograms {
        &self.client_programs
    }

    /// Leaves the embedded server: running while somebody leases from it, stopped otherwise.
    pub(super) async fn leave(&self, stop_in_any_case: bool, leased: bool) {
        let Some(embedded) = self.embedded.lock().await.take() else { return };
        let how = if leased && !stop_in_any_case { Leave::Keep } else { Leave::Stop };
        if how == Leave::Keep {
            tracing::info!("the embedded server goes on for the leases that are live; the next daemon adopts it");
        }
        if let Err(error) = embedded.leave(how).await {
            tracing::warn!("{error}");
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
