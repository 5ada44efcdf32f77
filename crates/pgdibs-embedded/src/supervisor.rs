//! The supervisor: our own binary as Postgres's parent. It outlives a daemon that was killed, keeps the server for the
//! next one, and stops it when none comes.

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
use super::control::{self, HELLO, KEEP, KEEPING, STOP, STOPPED, SUPERVISING};
use super::find::Binaries;
use super::layout::{Layout, write_whole};
use super::lock::{self, Taken};
use super::os_user;
use super::postmaster;

/// The hidden subcommand under which our binary becomes a supervisor.
const SUBCOMMAND: &str = "supervise-postgres";
/// How long a fast shutdown may take before an immediate one.
pub(super) const FAST_SHUTDOWN: Duration = Duration::from_secs(5);
/// How long an immediate shutdown may take before the process is killed.
pub(super) const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(1);
/// What a daemon on a loaded machine may need from starting its supervisor to saying hello.
pub(super) const FIRST_HELLO: Duration = Duration::from_secs(15);
/// The log lies in memory, where a talkative test suite must not fill the room of the databases.
const LONGEST_LOG_BYTES: u64 = 32 << 20;
const LOG_CHECK: Duration = Duration::from_secs(30);

/// What a supervisor is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorArgs {
    /// The data directory, made and locked by the daemon that starts the supervisor.
    pub data_dir: PathBuf,
    /// The directory of `postgres`.
    pub bin_dir: PathBuf,
    /// How long the server is kept while no daemon is connected.
    pub linger: Duration,
}

impl SupervisorArgs {
    /// The arguments that [`SupervisorArgs::recognise`] understands.
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

    /// Recognises a supervisor's command line, the program's name included (`std::env::args_os()`). To be asked first
    /// thing in `main`: this subcommand is ours alone and no part of the public command line.
    #[must_use]
    pub fn recognise(args: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let args: Vec<OsString> = args.into_iter().skip(1).collect();
        let [subcommand, data_flag, data_dir, bin_flag, bin_dir, linger_flag, linger] = args.as_slice() else {
            return None;
        };
        let ours = subcommand == SUBCOMMAND
            && data_flag == "--data-dir"
            && bin_flag == "--bin-dir"
            && linger_flag == "--linger-milliseconds";
        let linger = Duration::from_millis(linger.to_str()?.parse().ok()?);
        ours.then(|| Self { data_dir: data_dir.into(), bin_dir: bin_dir.into(), linger })
    }
}

/// Runs the server of one data directory until it ends or is to end. Blocks; makes its own runtime on its own thread, so
/// it may be called from anywhere, best as the first thing in `main`.
#[must_use]
pub fn supervise(args: SupervisorArgs) -> ExitCode {
    let thread = std::thread::spawn(move || -> io::Result<()> {
        // Whatever we or Postgres create is for us alone, the control socket too, from its first moment.
        nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&args))
    });
    match thread.join() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log(&format!("ended: {error}"));
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Our standard error is the server's log.
fn log(sentence: &str) {
    let _ = writeln!(io::stderr(), "pgdibs supervisor {}: {sentence}", std::process::id());
}

async fn run(args: &SupervisorArgs) -> io::Result<()> {
    let layout = Layout::of(&args.data_dir).map_err(io::Error::other)?;
    let Taken::Ours(lock) = lock::take(&layout.supervisor_lock()).await? else {
        return Err(io::Error::other("another supervisor has this data directory"));
    };
    // Freed by the end of the process and not before: who finds it free finds nothing of us running.
    std::mem::forget(lock);
    match std::fs::remove_file(layout.control_socket()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(layout.control_socket())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A closed terminal is no reason to end.
    let _hangup = signal(SignalKind::hangup())?;

    let boot = boot::current().unwrap_or_else(|| "unknown".to_owned());
    write_whole(&layout.running_file(), &format!("{boot}\n"), 0o600).map_err(io::Error::other)?;
    let mut postgres = start(&layout, args)?;
    let mut daemons = Daemons::new(args);
    let why = loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted { daemons.add(stream) },
            Some((id, message)) = daemons.messages.recv() => {
                if daemons.hear(id, message).await == AcquireRequest::Stop {
                    break "a daemon said so";
                }
            }
            () = reached(daemons.lonely_until) => break "no daemon has come",
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            status = postgres.wait() => {
                daemons.farewell().await;
                return Err(io::Error::other(format!("PostgreSQL ended by itself: {}", status?)));
            }
            () = shorten_log(&layout) => {}
        }
    };
    log(&format!("stopping PostgreSQL: {why}"));
    let status = stop(&mut postgres, &mut terminate).await?;
    if status.success() {
        // Only an orderly stop leaves a cluster that can be trusted after a reboot.
        std::fs::remove_file(layout.running_file())?;
    }
    std::fs::remove_file(layout.control_socket())?;
    log(&format!("PostgreSQL is down: {status}"));
    daemons.farewell().await;
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

/// Fast, then immediate, then killed. A second SIGTERM makes it immediate at once.
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

/// Cuts the log when it has grown too long; Postgres and we append to it, so nothing is written past its end.
async fn shorten_log(layout: &Layout) {
    tokio::time::sleep(LOG_CHECK).await;
    let Ok(file) = File::options().write(true).open(layout.log_file()) else {
        return;
    };
    if file.metadata().is_ok_and(|metadata| metadata.len() > LONGEST_LOG_BYTES) && file.set_len(0).is_ok() {
        log("the log was longer than 32 MiB and begins again");
    }
}

/// Ends at `instant`, or never.
async fn reached(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum AcquireRequest {
    None,
    Stop,
}

/// The daemons at the other end of the control socket, and since when there has been none.
struct Daemons {
    bin_dir: PathBuf,
    linger: Duration,
    /// When the server is stopped unless a daemon says hello before.
    lonely_until: Option<Instant>,
    next_id: u64,
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
            // The daemon that has started us must have the time to say hello, however short the linger is.
            lonely_until: Some(Instant::now() + args.linger.max(FIRST_HELLO)),
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
        tokio::spawn(listen(self.next_id, reader, self.sender.clone()));
    }

    /// Acts on one line of a daemon, or on its silence for ever (`None`).
    async fn hear(&mut self, id: u64, message: Option<String>) -> AcquireRequest {
        let Some(message) = message else {
            let greeted = self.writers.remove(&id).is_some_and(|(_, greeted)| greeted);
            if greeted && !self.writers.values().any(|(_, greeted)| *greeted) {
                self.lonely_until = Some(Instant::now() + self.linger);
                log(&format!("no daemon is connected; PostgreSQL is kept for {} s", self.linger.as_secs_f32()));
            }
            return AcquireRequest::None;
        };
        let mut words = message.split_whitespace();
        match words.next() {
            Some(HELLO) => {
                if let Some(linger) = words.next().and_then(|word| word.parse().ok()) {
                    self.linger = Duration::from_millis(linger);
                }
                self.lonely_until = None;
                let answer = format!("{SUPERVISING} {}", self.bin_dir.display());
                self.answer(id, &answer).await;
                if let Some((_, greeted)) = self.writers.get_mut(&id) {
                    *greeted = true;
                }
            }
            Some(KEEP) => self.answer(id, KEEPING).await,
            Some(STOP) => return AcquireRequest::Stop,
            _ => log(&format!("a daemon said something unknown: {message}")),
        }
        AcquireRequest::None
    }

    async fn answer(&mut self, id: u64, line: &str) {
        if let Some((writer, _)) = self.writers.get_mut(&id) {
            // A daemon that is gone is heard of by its reader.
            let _ = writer.write_all(format!("{line}\n").as_bytes()).await;
        }
    }

    /// Tells every daemon that the server is down.
    async fn farewell(&mut self) {
        let ids: Vec<u64> = self.writers.keys().copied().collect();
        for id in ids {
            self.answer(id, STOPPED).await;
        }
    }
}

async fn listen(id: u64, mut reader: OwnedReadHalf, sender: mpsc::Sender<(u64, Option<String>)>) {
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
    fn the_command_line_says_what_it_was_given_and_nothing_else_is_recognised() {
        let args = SupervisorArgs {
            data_dir: "/a data dir".into(),
            bin_dir: "/usr/lib/postgresql/15/bin".into(),
            linger: Duration::from_millis(1500),
        };
        let line = |args: Vec<OsString>| std::iter::once(OsString::from("pgdibs")).chain(args);
        assert_eq!(SupervisorArgs::recognise(line(args.command_line())), Some(args.clone()));
        assert_eq!(SupervisorArgs::recognise(line(vec!["serve".into()])), None);
        let mut spoilt = args.command_line();
        spoilt[6] = "soon".into();
        assert_eq!(SupervisorArgs::recognise(line(spoilt)), None);
    }
}
