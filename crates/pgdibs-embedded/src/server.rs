//! The embedded server as the daemon holds it: its address and password, its end, and how to leave it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Child;
use tokio::time::Instant;

use super::cluster::SUPERUSER;
use super::control::{Control, KEEP, KEEPING, STOP, STOPPED};
use super::error::{EmbeddedError, WhileDoing};
use super::layout::Layout;
use super::lock::{self, FileLock};
use super::postmaster;
use super::supervisor::{FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN};

/// What the server is allowed for stopping, and some for the messages about it.
const STOP_DEADLINE: Duration = FAST_SHUTDOWN.saturating_add(IMMEDIATE_SHUTDOWN).saturating_add(Duration::from_secs(2));
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);
const HOST: &str = "127.0.0.1";

/// How a daemon leaves its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Stop it: nothing lives there, or somebody said so.
    Stop,
    /// Leave it to its supervisor, which keeps it for the next daemon for [`super::EmbeddedOptions::linger`].
    Keep,
}

/// A server that serves, and our exclusive right to its data directory. Dropping it is what the death of the daemon is:
/// the supervisor keeps the server for a while. Has no `Debug`, for it holds the superuser's password.
pub struct Embedded {
    pub(super) layout: Layout,
    pub(super) control: Control,
    pub(super) port: u16,
    pub(super) password: SecretString,
    pub(super) major: u32,
    pub(super) adopted: bool,
    /// The supervisor when we have started it, so that it is reaped.
    pub(super) supervisor: Option<Child>,
    /// Freed last: the next daemon may come when all else is done.
    pub(super) daemon_lock: FileLock,
}

impl Embedded {
    /// The superuser's URL over TCP, password included: a secret.
    #[must_use]
    pub fn url(&self) -> SecretString {
        url(self.port, &self.password)
    }

    /// The address the server listens on.
    #[must_use]
    pub fn host(&self) -> &str {
        HOST
    }

    /// The port, the same for the life of the data directory unless somebody else took it while no lease was out.
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

    /// The directory of the server's Unix socket, open to the server's user alone.
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

    /// The directory of the server's programs, `psql` often among them.
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.control.bin_dir
    }

    /// The last lines of the server's log, to say why it ended.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        self.layout.log_tail(lines)
    }

    /// Ends when the server is gone: Postgres died, or its supervisor did. Then drop this and call
    /// [`super::start`] again. May be dropped and called again at any time.
    pub async fn stopped(&self) {
        self.control.closed().await;
    }

    /// Whether nothing is known against the server's running. Must be called within the runtime that started it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.control.is_closed()
    }

    /// Ends the daemon's part. With [`Leave::Stop`], Postgres is down when this returns: a fast shutdown, after 5 s an
    /// immediate one. If the future is dropped midway, the supervisor goes on with it.
    ///
    /// # Errors
    /// [`EmbeddedError::Lingering`] when the server does not end, [`EmbeddedError::Io`] when the supervisor does not
    /// answer.
    pub async fn leave(mut self, how: Leave) -> Result<(), EmbeddedError> {
        let socket = self.layout.control_socket();
        match how {
            Leave::Keep => {
                let kept = self.control.say(KEEP, KEEPING, ANSWER_DEADLINE).await;
                kept.while_doing("reach the supervisor at", &socket)
            }
            Leave::Stop => {
                match self.control.say(STOP, STOPPED, STOP_DEADLINE).await {
                    Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                        return Err(error).while_doing("reach the supervisor at", &socket);
                    }
                    _ => {}
                }
                wait_for_supervisors_end(&self.layout, ANSWER_DEADLINE).await?;
                if let Some(mut supervisor) = self.supervisor.take() {
                    let path = self.layout.data_dir();
                    supervisor.wait().await.while_doing("wait for the supervisor of", path)?;
                }
                // Usually there is none; a killed supervisor leaves one.
                postmaster::end_orphans(&self.layout).await?;
                drop(self.daemon_lock);
                Ok(())
            }
        }
    }
}

/// The superuser's URL over TCP.
pub(super) fn url(port: u16, password: &SecretString) -> SecretString {
    let password = utf8_percent_encode(password.expose_secret(), NON_ALPHANUMERIC);
    SecretString::from(format!("postgresql://{SUPERUSER}:{password}@{HOST}:{port}/postgres"))
}

/// Waits until no process is the supervisor of this data directory.
async fn wait_for_supervisors_end(layout: &Layout, patience: Duration) -> Result<(), EmbeddedError> {
    let deadline = Instant::now() + patience;
    let lock = layout.supervisor_lock();
    while let Some(pid) = lock::holder(&lock).while_doing("look at", &lock)? {
        if Instant::now() >= deadline {
            let status = format!("its supervisor is process {pid:?}");
            return Err(EmbeddedError::Lingering { data_dir: layout.data_dir().to_owned(), status });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
