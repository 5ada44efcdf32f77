//! The embedded server as the daemon holds it: its address and password, and how the daemon stops or keeps it.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Child;
use tokio::time::Instant;

use super::cluster::SUPERUSER;
use super::control::{Control, KEEP, KEEPING, STOP, STOPPED};
use super::error::{EmbeddedError, IoContext};
use super::layout::Layout;
use super::lock::{self, FileLock};
use super::postmaster;
use super::supervisor::{FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN};

/// The time that the server may take to stop, plus that of the messages about it.
const STOP_TIMEOUT: Duration = FAST_SHUTDOWN.saturating_add(IMMEDIATE_SHUTDOWN).saturating_add(Duration::from_secs(2));
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);
const HOST: &str = "127.0.0.1";

/// A running server and the exclusive right to its data directory. Dropping it has the effect of the daemon's death: the supervisor
/// keeps the server for [`super::EmbeddedOptions::linger`]. It has no `Debug`, because it holds the superuser's password.
pub struct Embedded {
    pub(super) layout: Layout,
    pub(super) control: Control,
    pub(super) port: u16,
    pub(super) password: SecretString,
    pub(super) major: u32,
    pub(super) adopted: bool,
    /// The supervisor, when this process started it and has to reap it.
    pub(super) supervisor: Option<Child>,
    /// Freed last: the next daemon may start when everything else is done.
    pub(super) daemon_lock: FileLock,
}

impl Embedded {
    /// The superuser's URL over TCP, password included: a secret.
    #[must_use]
    pub fn url(&self) -> SecretString {
        url(self.port, self.password.expose_secret())
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn host(&self) -> &str {
        HOST
    }

    /// The port. A data directory keeps its port, unless another process takes it while no lease can carry it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of everything that belongs to this server.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.layout.data_dir()
    }

    /// Postgres's own data directory within it.
    #[must_use]
    pub fn pgdata(&self) -> PathBuf {
        self.layout.pgdata()
    }

    /// The directory of the server's Unix socket; only the server's OS user may enter it.
    #[must_use]
    pub fn socket_dir(&self) -> PathBuf {
        self.layout.socket_dir()
    }

    /// Whether the server was running already.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The server's major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The directory of the server's programs; `psql` is often among them.
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.control.bin_dir
    }

    /// The last lines of the server's log, to report why it exited.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        self.layout.log_tail(lines)
    }

    /// Returns when Postgres or its supervisor has exited. Then drop this value and call [`super::start`] again. Cancel safe.
    pub async fn exited(&self) {
        self.control.closed().await;
    }

    /// Whether the connection to the supervisor is open. Call it within the runtime that started the server.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.control.is_closed()
    }

    /// Leaves the server running: its supervisor keeps it for [`super::EmbeddedOptions::linger`], for the next daemon to adopt.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`] when the supervisor does not answer.
    pub async fn keep(mut self) -> Result<(), EmbeddedError> {
        let kept = self.control.request(KEEP, KEEPING, ANSWER_TIMEOUT).await;
        kept.context("reach the supervisor at", &self.layout.control_socket())
    }

    /// Stops the server: a fast shutdown, after 5 s an immediate one. If the future is dropped, the supervisor completes the stop.
    ///
    /// # Errors
    /// [`EmbeddedError::StillRunning`] when the server does not exit, [`EmbeddedError::Io`] when the supervisor does not answer.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        match self.control.request(STOP, STOPPED, STOP_TIMEOUT).await {
            Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                return Err(error).context("reach the supervisor at", &self.layout.control_socket());
            }
            _ => {}
        }
        wait_for_supervisors_exit(&self.layout).await?;
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.wait().await.context("wait for the supervisor of", self.layout.data_dir())?;
        }
        // A supervisor that was killed leaves its server running.
        postmaster::stop_orphans(&self.layout).await?;
        drop(self.daemon_lock);
        Ok(())
    }
}

/// The superuser's URL of the server in `data_dir`, password included, for a process beside its daemon. Only a user who may read the
/// files of that directory gets it.
///
/// # Errors
/// [`EmbeddedError::Io`] when there is no such server, or this user may not read its files.
pub fn superuser_url(data_dir: &Path) -> Result<SecretString, EmbeddedError> {
    let layout = Layout::of(data_dir)?;
    let read = |path: &Path| std::fs::read_to_string(path).context("read", path);
    let password = read(&layout.password_file())?;
    Ok(url(read(&layout.port_file())?.trim(), password.trim()))
}

/// The processes that hold the locks of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processes {
    /// The daemon; `None` when none uses the directory.
    pub daemon: Option<u32>,
    /// The supervisor of its server; `None` when the server does not run.
    pub supervisor: Option<u32>,
}

impl Processes {
    /// The processes that use `data_dir` now. A directory that does not exist has none.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`] when this user may not read its files.
    pub fn of(data_dir: &Path) -> Result<Self, EmbeddedError> {
        if !Layout::is_marked(data_dir) {
            return Ok(Self { daemon: None, supervisor: None });
        }
        let layout = Layout::of(data_dir)?;
        let holder = |path: &Path| lock::holder(path).context("inspect", path).map(Option::flatten);
        Ok(Self { daemon: holder(&layout.daemon_lock())?, supervisor: holder(&layout.supervisor_lock())? })
    }
}

pub(super) fn url(port: impl Display, password: &str) -> SecretString {
    let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
    SecretString::from(format!("postgresql://{SUPERUSER}:{password}@{HOST}:{port}/postgres"))
}

async fn wait_for_supervisors_exit(layout: &Layout) -> Result<(), EmbeddedError> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let lock = layout.supervisor_lock();
    while let Some(pid) = lock::holder(&lock).context("inspect", &lock)? {
        if Instant::now() >= deadline {
            let status = format!("its supervisor is process {}", pid.unwrap_or(0));
            return Err(EmbeddedError::StillRunning { data_dir: layout.data_dir().to_owned(), status });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
