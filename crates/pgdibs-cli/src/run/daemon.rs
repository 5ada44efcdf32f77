//! A daemon started for one command and stopped after it, or shared with a command that has started one.

use crate::answer::Answer as _;
use std::collections::VecDeque;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::SecretString;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::error::CliError;
use crate::output::message;
use crate::progress::Progress;
use crate::signals::Signals;
use pgdibs::{Client, Error as ClientError};
use pgdibs_server::config::ServeFlags;
use pgdibs_server::daemon::IN_USE;
use pgdibs_server::endpoint_file::EndpointFile;
use pgdibs_server::offline;

/// Between two looks at a daemon that starts.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A daemon ends within 8 s of SIGTERM (issue 2, 6.3).
const ORDERLY_END: Duration = Duration::from_secs(10);
/// What the last lines of an ended daemon may take to reach us.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The end of its log that is shown when it does not start.
const LINES_KEPT: usize = 15;

/// Finds the daemon that another run has started on our data directory, or starts one.
///
/// # Errors
/// When there is none in time; the sentence has the end of its log.
pub(super) async fn find_or_start(
    context: &Context,
    token: Option<&SecretString>,
    ours: &mut Option<StartedDaemon>,
    wait: Duration,
    progress: &Progress,
) -> Result<Client, CliError> {
    let config = context.load_for_client(ServeFlags::default())?;
    let data_dir = match config.server_url {
        // On a server that was given, daemons share no directory and do not stand in each other's way.
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
        let daemon = ours.insert(StartedDaemon::start(context)?);
        let client = Client::builder(daemon.url().to_owned()).token(token.cloned()).build()?;
        let left = deadline.saturating_duration_since(Instant::now());
        match daemon.wait_until_ready(&client, left, progress).await? {
            Started::Ready => return Ok(client),
            // Its daemon has yet to say where it is, or is about to end.
            Started::DirectoryInUse(why) if Instant::now() >= deadline => return Err(why),
            Started::DirectoryInUse(_) => {
                *ours = None;
                progress.now("waiting for the daemon that another command has started");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// A daemon that answers where the note says, and is the one that left it.
async fn of_another_run(data_dir: &Path, token: Option<&SecretString>) -> Option<Client> {
    let note = EndpointFile::read(data_dir)?;
    let client = Client::builder(note.url.to_owned()).token(token.cloned()).build().ok()?;
    let status: Value = client.get("/v1/status").await.ok()?.read().ok()?;
    (status["daemon"]["instance"].as_str() == Some(&note.instance)).then_some(client)
}

/// How a daemon came up.
pub(super) enum Started {
    /// Databases can be had from it.
    Ready,
    /// It did not: another daemon has the data directory. The sentence for the user, should that one not be found in time.
    DirectoryInUse(CliError),
}

/// A daemon of our own. It has a process group of its own, so that Ctrl-C reaches the command and not the daemon under it, and it ends
/// when its standard input is closed, so that it cannot outlive us.
#[derive(Debug)]
pub(super) struct StartedDaemon {
    child: Child,
    /// Apart from the child: to wait for a child closes its standard input, and then it would take our SIGTERM for a second signal.
    _stdin: Option<ChildStdin>,
    url: String,
    log: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl StartedDaemon {
    /// Starts this very program as a daemon on a free port, with the configuration that this command has.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(context: &Context) -> Result<Self, CliError> {
        let failed = |what: &str, error: std::io::Error| {
            CliError::unavailable(format!("cannot start a daemon: {what}: {error}"))
                .hint("start one with `pgdibs serve` and try again")
        };
        let program = std::env::current_exe().map_err(|error| failed("where this program is", error))?;
        let port = free_port().map_err(|error| failed("no free port", error))?;
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
            // A flag wins over both variables here; there it becomes one of them.
            command.env("PGDIBS_TOKEN", token).env_remove("PGDIBS_TOKEN_FILE");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| failed("this program", error))?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        // Asked for by a flag of this command, its log is for the user; otherwise only when it fails.
        let shown = global.get("log").is_some();
        let reader = child.stderr.take().map(|stderr| tokio::spawn(read_log(stderr, Arc::clone(&log), shown)));
        let stdin = child.stdin.take();
        Ok(Self { child, _stdin: stdin, url: format!("http://127.0.0.1:{port}"), log, reader })
    }

    /// Where it listens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until databases can be had from it: all is ready, or at least its server is there; for a template that is still
    /// being built, and for one that fails, the lease has better words.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub(super) async fn wait_until_ready(
        &mut self,
        client: &Client,
        wait: Duration,
        progress: &Progress,
    ) -> Result<Started, CliError> {
        progress.now("starting a daemon");
        let deadline = Instant::now() + wait;
        let mut last = "it does not answer yet".to_owned();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.read_to_the_end().await;
                let why = CliError::unavailable(format!("the daemon did not start ({status}){}", self.last_lines()))
                    .hint("`pgdibs serve` says more about what is wrong");
                return if status.code() == Some(i32::from(IN_USE)) {
                    Ok(Started::DirectoryInUse(why))
                } else {
                    Err(why)
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
                    progress.now(format!("starting a daemon: {last}"));
                }
            }
            if Instant::now() >= deadline {
                let seconds = wait.as_secs_f64();
                return Err(CliError::unavailable(format!(
                    "the daemon was not ready within {seconds} s: {last}{}",
                    self.last_lines()
                ))
                .hint("wait longer with --wait"));
            }
            // A look has no side effect; a tighter loop would only burn the processor that the daemon needs.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The daemon has ended: what it said last may still be in the pipe. A server that it left behind may hold the pipe open.
    async fn read_to_the_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _complete = tokio::time::timeout(LAST_WORDS, reader).await;
        }
    }

    fn last_lines(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match log.is_empty() {
            true => String::new(),
            false => format!(
                "; its last lines:\n{}",
                log.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
            ),
        }
    }

    /// Stops it orderly; at once when that takes too long or a signal asks us to hurry. Says so when it would not end.
    pub(super) async fn stop(&mut self, signals: &mut Signals) {
        for _orderly_then_at_once in 0..2 {
            self.tell(Signal::SIGTERM);
            tokio::select! {
                _ended = self.child.wait() => return,
                () = tokio::time::sleep(ORDERLY_END) => {}
                _hurry = signals.next() => {}
            }
        }
        message(&format!("the daemon at {} does not end; it is killed and its server stops itself later", self.url));
        self.tell(Signal::SIGKILL);
        let _ended = self.child.wait().await;
    }

    fn tell(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // Our own child, not yet waited for. It fails only when it has ended.
            let _ended_meanwhile = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// A port that nobody listens on. Somebody could take it before the daemon does; then the daemon says so and ends.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Reads the daemon's log to its end, so that it never waits for us; keeps the last lines.
async fn read_log(stderr: impl AsyncRead + Unpin, log: Arc<Mutex<VecDeque<String>>>, shown: bool) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if shown {
            message(&line);
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LINES_KEPT {
            log.pop_front();
        }
        log.push_back(line);
    }
}
