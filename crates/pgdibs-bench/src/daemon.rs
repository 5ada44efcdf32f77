//! The benchmark's own daemon: started on a free port with a data directory that exists for this run alone.

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

/// `initdb` takes seconds on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Between two looks at a daemon that starts.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A daemon ends within 8 s of SIGTERM; then it is killed, and its server stops itself.
const ORDERLY_END: Duration = Duration::from_secs(12);

/// What a run leaves in memory at most: WAL, and some dozen databases.
const ROOM_NEEDED_BYTES: u64 = 2 << 30;

/// A daemon of our own.
#[derive(Debug)]
pub(crate) struct BenchDaemon {
    child: Child,
    url: String,
    data_dir: PathBuf,
}

impl BenchDaemon {
    /// Starts the daemon. Nothing of the user's configuration reaches it.
    pub(crate) fn start(options: &Options) -> Result<Self, BenchError> {
        let failed =
            |what: &str, error: std::io::Error| BenchError::Daemon(format!("cannot be started: {what}: {error}"));
        let program = match &options.pgdibs {
            Some(program) => program.clone(),
            None => std::env::current_exe()
                .map_err(|error| failed("where this program is", error))?
                .with_file_name("pgdibs"),
        };
        // Somebody could take the port before the daemon does; then it says so and ends.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| failed("no free port", error))?.port();
        let data_dir = place().join(format!("pgdibs-bench-{}", std::process::id()));
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
        // A configuration file is looked for where the daemon stands.
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(|error| failed("`pgdibs` beside this program", error))?;
        Ok(Self { child, url: format!("http://127.0.0.1:{port}"), data_dir })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Waits until its server is up.
    pub(crate) async fn wait_until_ready(&mut self, api: &Api) -> Result<(), BenchError> {
        let deadline = Instant::now() + START;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(BenchError::Daemon(format!("ended early ({status})")));
            }
            let Err(error) = api.call(Method::GET, "/readyz", None).await else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(BenchError::Daemon(format!("was not ready within {} s: {error}", START.as_secs())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads what it and its server use of the processor.
    pub(crate) fn meter(&self) -> Meter {
        Meter::new(self.child.id().unwrap_or(0), &self.data_dir.join("pgdata"))
    }

    /// Its resident memory, where the system says so in /proc.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    }

    /// Stops it and its server, and removes their data.
    pub(crate) async fn stop(mut self) {
        // It ends when its standard input does.
        drop(self.child.stdin.take());
        if tokio::time::timeout(ORDERLY_END, self.child.wait()).await.is_err() {
            let _ended_meanwhile = self.child.kill().await;
        }
        if self.data_dir.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.data_dir)
        {
            let _closed = writeln!(std::io::stderr(), "cannot remove {}: {error}", self.data_dir.display());
        }
    }
}

/// In memory when there is room, as the daemon itself would choose, but never where one of the user's has its data.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    #[allow(clippy::unnecessary_cast, reason = "narrower types than u64 on other systems than Linux")]
    let free = nix::sys::statvfs::statvfs(memory)
        .map_or(0, |stat| stat.blocks_available() as u64 * stat.fragment_size() as u64);
    if free >= ROOM_NEEDED_BYTES { memory.to_owned() } else { std::env::temp_dir() }
}
