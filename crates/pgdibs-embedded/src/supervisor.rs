//! The supervisor: this program again, as Postgres's parent. It outlives a daemon that was killed, keeps the server for the next
//! daemon, and stops it when none attaches.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::boot;
use super::control::{self, ATTACH, ATTACHED, KEEP, KEEPING, STOP, STOPPED};
use super::find::Binaries;
use super::layout::{Layout, write_atomically};
use super::lock::{self, Attempt};
use super::os_user;
use super::postmaster;

/// The hidden subcommand that makes this program a supervisor.
const SUBCOMMAND: &str = "supervise-postgres";
/// How long a fast shutdown may take before an immediate one.
pub(super) const FAST_SHUTDOWN: Duration = Duration::from_secs(5);
/// How long an immediate shutdown may take before the process is killed.
pub(super) const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(1);
/// The time that a daemon on a loaded machine may need between starting its supervisor and attaching to it.
pub(super) const ATTACH_TIMEOUT: Duration = Duration::from_secs(15);
/// The log may lie in memory, where that of a verbose test suite must not take the space of the databases.
const MAX_LOG_BYTES: u64 = 32 << 20;
const LOG_CHECK: Duration = Duration::from_secs(30);

/// The command line of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorArgs {
    /// The data directory; the daemon that starts the supervisor has created and locked it.
    pub data_dir: PathBuf,
    /// The directory of `postgres`.
    pub bin_dir: PathBuf,
    /// How long the supervisor keeps the server while no daemon is attached.
    pub linger: Duration,
}

impl SupervisorArgs {
    /// The arguments that [`SupervisorArgs::recognise`] parses.
    #[must_use]
    pub fn command_line(&self) -> Vec<OsString> {
        vec![
            SUBCOMMAND.into(),
            "--data-dir".into(),
            self.data_dir.clone().into(),
            "--bin-dir".into(),
            self.bin_dir.clone().into(),
            "--linger-milliseconds".into(),
            self.linger.as_millis().to_string().into(),
        ]
    }

    /// Parses a supervisor's command line, the program's name included (`std::env::args_os()`); `None` when it is another one. `main`
    /// calls it first: this subcommand is no part of the public command line.
    #[must_use]
    pub fn recognise(args: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let args: Vec<OsString> = args.into_iter().skip(1).collect();
        let [subcommand, data_flag, data_dir, bin_flag, bin_dir, linger_flag, linger] = args.as_slice() else {
            return None;
        };
        let is_supervisor = subcommand == SUBCOMMAND
            && data_flag == "--data-dir"
            && bin_flag == "--bin-dir"
            && linger_flag == "--linger-milliseconds";
        let linger = Duration::from_millis(linger.to_str()?.parse().ok()?);
        is_supervisor.then(|| Self { data_dir: data_dir.into(), bin_dir: bin_dir.into(), linger })
    }
}

/// Runs the server of one data directory until it exits or a daemon, a signal or the end of the linger stops it. Blocks: it runs its
/// own runtime on its own thread.
#[must_use]
pub fn supervise(args: SupervisorArgs) -> ExitCode {
    let thread = std::thread::spawn(move || -> io::Result<()> {
        // Only this user may access the files that the supervisor and Postgres create, among them the control socket.
        nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&args))
    });
    match thread.join() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log(&format!("supervisor failed: {error}"));
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Writes to standard error, which is the server's log.
fn log(message: &str) {
    let _ = writeln!(io::stderr(), "pgdibs supervisor {}: {message}", std::process::id());
}

async fn run(args: &SupervisorArgs) -> io::Result<()> {
    let layout = Layout::of(&args.data_dir).map_err(io::Error::other)?;
    let Attempt::Acquired(lock) = lock::acquire(&layout.supervisor_lock()).await? else {
        return Err(io::Error::other("another supervisor holds the lock of this data directory"));
    };
    // Only the exit of this process frees it: a free lock means that no supervisor runs.
    std::mem::forget(lock);
    match std::fs::remove_file(layout.control_socket()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(layout.control_socket())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A closed terminal does not stop the server.
    let _hangup = signal(SignalKind::hangup())?;

    let boot = boot::current().unwrap_or_else(|| "unknown".to_owned());
    write_atomically(&layout.running_file(), &format!("{boot}\n"), 0o600).map_err(io::Error::other)?;
    let mut postgres = start(&layout, args)?;
    let mut daemons = Daemons::new(args);
    let why = loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted { daemons.add(stream) },
            Some((id, message)) = daemons.messages.recv() => {
                if daemons.handle(id, message).await == Action::Stop {
                    break "requested by a daemon";
                }
            }
            () = reached(daemons.stop_at) => break "no daemon attached in time",
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            status = postgres.wait() => {
                daemons.notify_stopped().await;
                return Err(io::Error::other(format!("PostgreSQL exited: {}", status?)));
            }
            () = truncate_log(&layout) => {}
        }
    };
    log(&format!("stopping PostgreSQL: {why}"));
    let status = stop(&mut postgres, &mut terminate).await?;
    if status.success() {
        // After an orderly stop the cluster survives a reboot.
        std::fs::remove_file(layout.running_file())?;
    }
    std::fs::remove_file(layout.control_socket())?;
    log(&format!("stopped PostgreSQL: {status}"));
    daemons.notify_stopped().await;
    Ok(())
}

fn start(layout: &Layout, args: &SupervisorArgs) -> io::Result<Child> {
    let os_user = os_user::for_server().map_err(io::Error::other)?;
    let log = File::options().create(true).append(true).open(layout.log_file())?;
    let mut command = Binaries { dir: args.bin_dir.clone(), major: 0 }.command("postgres");
    os_user::run_as(&mut command, os_user.as_ref());
    command.arg("-D").arg(layout.pgdata()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    tokio::process::Command::from(command).spawn()
}

/// A fast shutdown, then an immediate one, then SIGKILL. A second SIGTERM skips the wait.
async fn stop(postgres: &mut Child, terminate: &mut SignalStream) -> io::Result<ExitStatus> {
    for (signal, patience) in [(Signal::SIGINT, FAST_SHUTDOWN), (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN)] {
        if let Some(pid) = postgres.id().and_then(|pid| i32::try_from(pid).ok()) {
            postmaster::send(pid, signal);
        }
        tokio::select! {
            status = postgres.wait() => return status,
            () = tokio::time::sleep(patience) => {}
            _ = terminate.recv() => {}
        }
    }
    postgres.kill().await?;
    postgres.wait().await
}

/// Empties the log when it has grown too long. Postgres and the supervisor append to it, so neither writes past its end.
async fn truncate_log(layout: &Layout) {
    tokio::time::sleep(LOG_CHECK).await;
    let Ok(file) = File::options().write(true).open(layout.log_file()) else {
        return;
    };
    if file.metadata().is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) && file.set_len(0).is_ok() {
        log("truncated the log: it was longer than 32 MiB");
    }
}

/// Returns at `instant`, or never.
async fn reached(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Continue,
    Stop,
}

/// The daemons that are connected to the control socket.
struct Daemons {
    bin_dir: PathBuf,
    linger: Duration,
    /// When the supervisor stops the server, unless a daemon attaches before.
    stop_at: Option<Instant>,
    next_id: u64,
    /// The writing halves; the flag says whether that daemon has attached.
    writers: HashMap<u64, (OwnedWriteHalf, bool)>,
    sender: mpsc::Sender<(u64, Option<String>)>,
    messages: mpsc::Receiver<(u64, Option<String>)>,
}

impl Daemons {
    fn new(args: &SupervisorArgs) -> Self {
        let (sender, messages) = mpsc::channel(16);
        Self {
            bin_dir: args.bin_dir.clone(),
            linger: args.linger,
            // The daemon that started this supervisor needs time to attach, however short the linger is.
            stop_at: Some(Instant::now() + args.linger.max(ATTACH_TIMEOUT)),
            next_id: 0,
            writers: HashMap::new(),
            sender,
            messages,
        }
    }

    fn add(&mut self, stream: UnixStream) {
        let (reader, writer) = stream.into_split();
        self.next_id += 1;
        self.writers.insert(self.next_id, (writer, false));
        tokio::spawn(read_messages(self.next_id, reader, self.sender.clone()));
    }

    /// Handles one message of a daemon; `None` is the end of its connection.
    async fn handle(&mut self, id: u64, message: Option<String>) -> Action {
        let Some(message) = message else {
            let attached = self.writers.remove(&id).is_some_and(|(_, attached)| attached);
            if attached && !self.writers.values().any(|(_, attached)| *attached) {
                self.stop_at = Some(Instant::now() + self.linger);
                log(&format!("no daemon is attached: keeping PostgreSQL for {} s", self.linger.as_secs_f32()));
            }
            return Action::Continue;
        };
        let mut words = message.split_whitespace();
        match words.next() {
            Some(ATTACH) => {
                if let Some(linger) = words.next().and_then(|word| word.parse().ok()) {
                    self.linger = Duration::from_millis(linger);
                }
                self.stop_at = None;
                let answer = format!("{ATTACHED} {}", self.bin_dir.display());
                self.answer(id, &answer).await;
                if let Some((_, attached)) = self.writers.get_mut(&id) {
                    *attached = true;
                }
            }
            Some(KEEP) => self.answer(id, KEEPING).await,
            Some(STOP) => return Action::Stop,
            _ => log(&format!("unknown message of a daemon: {message}")),
        }
        Action::Continue
    }

    async fn answer(&mut self, id: u64, line: &str) {
        if let Some((writer, _)) = self.writers.get_mut(&id) {
            // When the daemon has exited, its reader reports it.
            let _ = writer.write_all(format!("{line}\n").as_bytes()).await;
        }
    }

    /// Sends `stopped` to every daemon.
    async fn notify_stopped(&mut self) {
        let ids: Vec<u64> = self.writers.keys().copied().collect();
        for id in ids {
            self.answer(id, STOPPED).await;
        }
    }
}

async fn read_messages(id: u64, mut reader: OwnedReadHalf, sender: mpsc::Sender<(u64, Option<String>)>) {
    loop {
        let line = control::read_line(&mut reader).await.ok();
        let last = line.is_none();
        if sender.send((id, line)).await.is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_round_trips_and_others_are_not_recognised() {
        let args = SupervisorArgs {
            data_dir: "/a data dir".into(),
            bin_dir: "/usr/lib/postgresql/15/bin".into(),
            linger: Duration::from_millis(1500),
        };
        let line = |args: Vec<OsString>| std::iter::once(OsString::from("pgdibs")).chain(args);
        assert_eq!(SupervisorArgs::recognise(line(args.command_line())), Some(args.clone()));
        assert_eq!(SupervisorArgs::recognise(line(vec!["serve".into()])), None);
        let mut invalid = args.command_line();
        invalid[6] = "soon".into();
        assert_eq!(SupervisorArgs::recognise(line(invalid)), None);
    }
}
