//! Starts a daemon for one command and stops it afterwards, or finds the one of another command.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::SecretString;
use serde_json::Value;
use tokio::process::{Child, ChildStdin, Command};

use super::log::Log;
use crate::context::{Context, address_of};
use crate::error::CliError;
use crate::output::message;
use crate::progress::Progress;
use crate::signals::Signals;
use pgdibs::{Client, Error as ClientError};
use pgdibs_server::config::ServeFlags;
use pgdibs_server::daemon::IN_USE;
use pgdibs_server::endpoint_file::EndpointFile;
use pgdibs_server::offline;

/// The interval at which the start of a daemon is checked.
const POLL: Duration = Duration::from_millis(50);
/// A daemon exits within 8 s of SIGTERM.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Finds the daemon that another run has started on the data directory, or starts one.
///
/// # Errors
/// No daemon was ready in time; the message has the last lines of its log.
pub(super) async fn find_or_start(
    context: &Context,
    token: Option<&SecretString>,
    started: &mut Option<StartedDaemon>,
    wait: Duration,
    progress: &Progress,
) -> Result<Client, CliError> {
    let config = context.load_for_client(ServeFlags::default())?;
    let data_dir = match config.server_url {
        // Daemons on a configured server need no data directory, so several can run.
        Some(_) => None,
        None => offline::data_dir(config.data_dir.as_deref()).ok(),
    };
    let deadline = Instant::now() + wait;
    loop {
        if let Some(data_dir) = &data_dir
            && let Some(client) = of_another_run(data_dir, token).await
        {
            return Ok(client);
        }
        let daemon = started.insert(StartedDaemon::start(context)?);
        let client = Client::builder(daemon.url().to_owned()).token(token.cloned()).build()?;
        let left = deadline.saturating_duration_since(Instant::now());
        match daemon.wait_until_ready(&client, left, progress).await? {
            Started::Ready => {
                message(&format!(
                    "no daemon answers at {}: started one at {} for this command{}",
                    address_of(&config.listen),
                    daemon.url(),
                    daemon.log.place()
                ));
                return Ok(client);
            }
            // The other daemon has not written its endpoint file yet, or is about to exit.
            Started::DirectoryInUse(error) if Instant::now() >= deadline => return Err(error),
            Started::DirectoryInUse(_) => {
                *started = None;
                progress.set("waiting for the daemon that another command has started");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// A client for the daemon of the endpoint file, if that daemon still runs.
async fn of_another_run(data_dir: &Path, token: Option<&SecretString>) -> Option<Client> {
    let endpoint = EndpointFile::read(data_dir)?;
    let client = Client::builder(endpoint.url.to_owned()).token(token.cloned()).build().ok()?;
    let status: Value = client.get("/v1/status").await.ok()?.json().ok()?;
    (status["daemon"]["instance"].as_str() == Some(&endpoint.instance)).then_some(client)
}

/// The outcome of a start.
pub(super) enum Started {
    /// The daemon can grant leases.
    Ready,
    /// Another daemon uses the data directory. The error is for the case that this one is not found in time.
    DirectoryInUse(CliError),
}

/// A daemon that this process started. It has its own process group, so that Ctrl-C reaches the command alone, and it stops when its
/// standard input closes, so that it does not outlive this process.
#[derive(Debug)]
pub(super) struct StartedDaemon {
    child: Child,
    /// Taken out of the child, because waiting for a child closes its standard input, which makes the daemon stop on its own.
    _stdin: Option<ChildStdin>,
    url: String,
    log: Log,
}

impl StartedDaemon {
    /// Starts this program as a daemon on a free port, with the configuration of this command.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn start(context: &Context) -> Result<Self, CliError> {
        let failed = |what: &str, error: std::io::Error| {
            CliError::unavailable(format!("cannot start a daemon: {what}: {error}"))
                .hint("start one with `pgdibs serve` and try again")
        };
        let program =
            std::env::current_exe().map_err(|error| failed("cannot determine the path of this program", error))?;
        let port = free_port().map_err(|error| failed("cannot find a free port", error))?;
        let global = &context.global;
        let mut command = Command::new(program);
        command.args(["serve", "--end-with-stdin", "--listen"]).arg(format!("127.0.0.1:{port}"));
        let passed_on = [
            ("--config", global.get("config")),
            ("--token-file", global.get("token_file")),
            ("--log", global.get("log")),
            ("--log-format", global.get("log_format")),
        ];
        for (flag, value) in passed_on {
            command.args(value.iter().flat_map(|value| [flag, value]));
        }
        if let Some(token) = global.get("token") {
            // The flag overrides both variables. The daemon gets it as a variable, because other users can read arguments.
            command.env("PGDIBS_TOKEN", token).env_remove("PGDIBS_TOKEN_FILE");
        }
        // With --log the user wants to see its log; otherwise it goes to a file, and its end is shown when the daemon fails.
        let mut log = if global.get("log").is_some() { Log::shown() } else { Log::to_file() };
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log.stderr()).process_group(0);
        let mut child = command.spawn().map_err(|error| failed("cannot run this program", error))?;
        log.read(child.stderr.take());
        let stdin = child.stdin.take();
        Ok(Self { child, _stdin: stdin, url: format!("http://127.0.0.1:{port}"), log })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the daemon is ready, or until its server is up: the request for a lease waits for a template that is being built, and
    /// reports one that failed.
    ///
    /// # Errors
    /// The daemon exits, or is not ready in time.
    pub(super) async fn wait_until_ready(
        &mut self,
        client: &Client,
        wait: Duration,
        progress: &Progress,
    ) -> Result<Started, CliError> {
        progress.set("starting a daemon");
        let deadline = Instant::now() + wait;
        let mut last = "it does not answer yet".to_owned();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.log.read_rest().await;
                let error =
                    CliError::unavailable(format!("the daemon did not start ({status}){}", self.log.last_lines()))
                        .hint("`pgdibs serve` shows its whole log");
                return if status.code() == Some(i32::from(IN_USE)) {
                    Ok(Started::DirectoryInUse(error))
                } else {
                    Err(error)
                };
            }
            match client.get("/readyz").await {
                Ok(_) => return Ok(Started::Ready),
                Err(ClientError::Unavailable { .. }) => {}
                Err(error) => {
                    if client.get("/v1/pools").await.is_ok() {
                        return Ok(Started::Ready);
                    }
                    last = error.to_string();
                    progress.set(format!("starting a daemon: {last}"));
                }
            }
            if Instant::now() >= deadline {
                let seconds = wait.as_secs_f64();
                return Err(CliError::unavailable(format!(
                    "the daemon was not ready within {seconds} s: {last}{}",
                    self.log.last_lines()
                ))
                .hint("wait longer with --wait"));
            }
            // A shorter interval would take processor time that the daemon needs.
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops the daemon with SIGTERM. A second one, after a timeout or a signal to this process, stops it at once; then SIGKILL.
    pub(super) async fn stop(&mut self, signals: &mut Signals) {
        for _attempt in 0..2 {
            self.signal(Signal::SIGTERM);
            tokio::select! {
                _exited = self.child.wait() => return,
                () = tokio::time::sleep(SHUTDOWN_TIMEOUT) => {}
                _signal = signals.next() => {}
            }
        }
        message(&format!(
            "killing the daemon at {}: it did not exit after SIGTERM; its supervisor stops the server later",
            self.url
        ));
        self.signal(Signal::SIGKILL);
        let _exited = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // The child is not reaped, so the id cannot belong to another process. The call fails only when it has exited.
            let _exited = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// A free port. If another process takes it before the daemon does, the daemon reports that and exits.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
