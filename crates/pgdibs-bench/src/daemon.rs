//! A daemon of the benchmark, on a free port, with an embedded server or on a given one.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pgdibs::Method;
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::args::Options;
use crate::error::BenchError;
use crate::server::LINGER;

/// The timeout of the start; `initdb` takes seconds on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval at which the start is polled.
const POLL: Duration = Duration::from_millis(50);
/// The timeout of an orderly shutdown, which takes at most 8 s. Then the daemon is killed, and its supervisor stops the server.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(12);

/// The server of a daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Serves<'a> {
    /// An embedded one in this directory.
    Embedded(&'a Path),
    Given(&'a str),
}

#[derive(Debug)]
pub(crate) struct BenchDaemon {
    child: Child,
    url: String,
}

impl BenchDaemon {
    /// Starts the daemon, without the user's configuration.
    pub(crate) fn start(options: &Options, serves: Serves<'_>) -> Result<Self, BenchError> {
        let failed =
            |what: &str, error: std::io::Error| BenchError::Daemon(format!("cannot be started: {what}: {error}"));
        // If another process takes the port first, the daemon reports that and exits.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| failed("cannot find a free port", error))?.port();
        let mut command = program(options)?;
        command.args(["serve", "--end-with-stdin", "--log", &options.log, "--listen"]).arg(format!("127.0.0.1:{port}"));
        match serves {
            Serves::Embedded(data_dir) => {
                command.arg("--data-dir").arg(data_dir).arg("--stop-server");
                command.arg("--linger-seconds").arg(LINGER.as_secs().to_string());
                if let Some(pg_bin_dir) = &options.pg_bin_dir {
                    command.arg("--pg-bin-dir").arg(pg_bin_dir);
                }
            }
            // Other users can read flags.
            Serves::Given(url) => {
                command.env("PGDIBS_SERVER_URL", url);
            }
        }
        let child =
            command.spawn().map_err(|error| failed("cannot run `pgdibs` in the directory of this program", error))?;
        Ok(Self { child, url: format!("http://127.0.0.1:{port}") })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
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

    /// Stops the daemon and its embedded server.
    pub(crate) async fn stop(mut self) {
        // The daemon shuts down when its standard input closes.
        drop(self.child.stdin.take());
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.child.wait()).await.is_err() {
            let _exited = self.child.kill().await;
        }
    }
}

/// Removes everything that the daemon has made on a given server.
pub(crate) async fn purge(options: &Options, server_url: &str) -> Result<(), BenchError> {
    let mut command = program(options)?;
    command.args(["purge", "--yes"]).env("PGDIBS_SERVER_URL", server_url).stdin(Stdio::null());
    match command.status().await {
        Ok(status) if status.success() => Ok(()),
        ended => Err(BenchError::Unusable(format!(
            "the server still has databases and roles of the benchmark: `pgdibs purge` failed ({}); run it again",
            ended.map_or_else(|error| error.to_string(), |status| status.to_string())
        ))),
    }
}

/// The measured program without the user's settings, out of reach of the terminal's Ctrl-C.
fn program(options: &Options) -> Result<Command, BenchError> {
    let path = options.program().map_err(|error| BenchError::Daemon(format!("has no path: {error}")))?;
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PGDIBS_") {
            command.env_remove(name);
        }
    }
    // `pgdibs` reads a configuration file in its working directory.
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).kill_on_drop(true);
    Ok(command)
}
