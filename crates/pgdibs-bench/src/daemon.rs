//! The benchmark's daemon, on a free port and with a temporary data directory.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use pgdibs::Method;
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::args::Options;
use crate::error::BenchError;
use crate::processor::Meter;

/// The timeout of the start; `initdb` takes seconds on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval at which the start is polled.
const POLL: Duration = Duration::from_millis(50);
/// The timeout of an orderly shutdown, which takes at most 8 s. Then the daemon is killed, and its supervisor stops the server.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(12);

/// The memory that a run needs for WAL and a few dozen databases.
const MIN_FREE_BYTES: u64 = 2 << 30;

#[derive(Debug)]
pub(crate) struct BenchDaemon {
    child: Child,
    url: String,
    data_dir: PathBuf,
}

impl BenchDaemon {
    /// Starts the daemon, without the user's configuration. Each daemon of a run has another name.
    pub(crate) fn start(options: &Options, name: &str) -> Result<Self, BenchError> {
        let failed =
            |what: &str, error: std::io::Error| BenchError::Daemon(format!("cannot be started: {what}: {error}"));
        let program = match &options.pgdibs {
            Some(program) => program.clone(),
            None => std::env::current_exe()
                .map_err(|error| failed("cannot determine the path of this program", error))?
                .with_file_name("pgdibs"),
        };
        // If another process takes the port first, the daemon reports that and exits.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| failed("cannot find a free port", error))?.port();
        let data_dir = data_parent().join(format!("pgdibs-bench-{}-{name}", std::process::id()));
        let mut command = Command::new(program);
        command.args(["serve", "--end-with-stdin", "--stop-server", "--linger-seconds", "5", "--listen"]);
        command.arg(format!("127.0.0.1:{port}")).arg("--data-dir").arg(&data_dir);
        command.args(["--log", options.log.as_deref().unwrap_or("error")]);
        if let Some(pg_bin_dir) = &options.pg_bin_dir {
            command.args(["--pg-bin-dir", pg_bin_dir]);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PGDIBS_") {
                command.env_remove(name);
            }
        }
        // The daemon reads a configuration file in its working directory.
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).kill_on_drop(true);
        let child =
            command.spawn().map_err(|error| failed("cannot run `pgdibs` in the directory of this program", error))?;
        Ok(Self { child, url: format!("http://127.0.0.1:{port}"), data_dir })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Waits until the daemon is ready.
    pub(crate) async fn wait_until_ready(&mut self, api: &Api) -> Result<(), BenchError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(BenchError::Daemon(format!("exited early ({status})")));
            }
            let Err(error) = api.call(Method::GET, "/readyz", None).await else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(BenchError::Daemon(format!("was not ready within {} s: {error}", START_TIMEOUT.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The meter of the processor time of the daemon and its server.
    pub(crate) fn meter(&self) -> Meter {
        Meter::new(self.child.id().unwrap_or(0), &self.data_dir.join("pgdata"))
    }

    /// The daemon's resident memory; `None` where there is no `/proc`.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    }

    /// Stops the daemon and its server, and removes their data.
    pub(crate) async fn stop(mut self) {
        // The daemon shuts down when its standard input closes.
        drop(self.child.stdin.take());
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.child.wait()).await.is_err() {
            let _exited = self.child.kill().await;
        }
        if self.data_dir.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.data_dir)
        {
            let _closed = writeln!(std::io::stderr(), "cannot remove {}: {error}", self.data_dir.display());
        }
    }
}

/// The parent of the data directory: in memory when it has enough space, and never a directory that a daemon of the user chooses.
fn data_parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    #[allow(clippy::unnecessary_cast, reason = "narrower types than u64 on other systems than Linux")]
    let free = nix::sys::statvfs::statvfs(memory)
        .map_or(0, |stat| stat.blocks_available() as u64 * stat.fragment_size() as u64);
    if free >= MIN_FREE_BYTES { memory.to_owned() } else { std::env::temp_dir() }
}
