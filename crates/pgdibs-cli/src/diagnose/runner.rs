//! Runs the user's command with the probe, away from the user's files and databases, with a deadline.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::events::{self, Process};
use crate::command::Outcome;
use crate::error::CliError;
use crate::signals::{Received, Signals};

/// The module of the probe, which `-p` names.
const PROBE: &str = "pgdibs_diagnose_probe";
/// How long a command may take to end after SIGTERM, which makes the plugin of pgdibs release its leases.
const GRACE: Duration = Duration::from_secs(3);
/// How soon it is seen that a command has stopped.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Lines of the output of a command that failed.
const LINES_SHOWN: usize = 12;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(u8),
    /// The deadline ended it.
    TimedOut,
    /// It stopped, because it used a terminal.
    UsedTerminal,
    /// It could not be started.
    NotStarted(String),
}

/// One run of the command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ending: Ending,
    /// Seconds since the epoch.
    pub(crate) begun: f64,
    pub(crate) ended: f64,
    pub(crate) processes: Vec<Process>,
    /// Standard error, which has the lines of `-X importtime`.
    pub(crate) errors: String,
    output: String,
}

impl Ran {
    pub(crate) fn seconds(&self) -> f64 {
        (self.ended - self.begun).max(0.0)
    }

    /// The process of the command itself, in which pytest runs; for xdist the controller. Another one may build a template with pytest.
    pub(crate) fn main(&self) -> Option<&Process> {
        let all = self.processes.iter().filter(|process| process.is_main());
        all.max_by_key(|process| (process.tests.len(), process.marks.len()))
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| !process.is_main())
    }

    /// The seconds from the start to a mark of the main process.
    pub(crate) fn until(&self, mark: &str) -> Option<f64> {
        Some((self.main()?.mark(mark)? - self.begun).max(0.0))
    }

    /// What it wrote to standard output.
    pub(crate) fn printed(&self) -> &str {
        &self.output
    }

    /// Why a run is of no use, in one line, with the end of its output.
    pub(crate) fn failure(&self) -> String {
        let how = match &self.ending {
            Ending::Exited(code) => format!("it ended with {code}"),
            Ending::TimedOut => format!("it was still running after {:.0} s, and was ended", self.seconds()),
            Ending::UsedTerminal => {
                "it was ended when it used the terminal: it must run without one, as in CI".to_owned()
            }
            Ending::NotStarted(why) => return why.clone(),
        };
        let lines = self.output.lines().chain(self.errors.lines());
        let useful = |line: &&str| !line.trim().is_empty() && !line.contains("import time:");
        let lines: Vec<&str> = lines.filter(useful).collect();
        let last: Vec<String> =
            lines.iter().rev().take(LINES_SHOWN).rev().map(|line| format!("\n    {line}")).collect();
        if last.is_empty() { how } else { format!("{how}:{}", last.concat()) }
    }
}

/// A signal came; the measurements end.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) Signal);

/// Runs commands. What they would write beside the code goes into a directory that is deleted at the end.
#[derive(Debug)]
pub(crate) struct Runner {
    directory: TempDir,
    signals: Signals,
    variables: Vec<(OsString, OsString)>,
    removed: Vec<String>,
    runs: usize,
}

impl Runner {
    /// # Errors
    /// The directory cannot be made, or signals cannot be caught.
    pub(crate) fn new() -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::failed(format!("cannot make a temporary directory: {error}"));
        let directory = tempfile::Builder::new().prefix("pgdibs-diagnose-").tempdir().map_err(failed)?;
        let probe = directory.path().join(format!("{PROBE}.py"));
        std::fs::write(probe, include_str!("probe.py")).map_err(failed)?;
        let mut runner =
            Self { directory, signals: Signals::catch()?, variables: Vec::new(), removed: Vec::new(), runs: 0 };
        runner.set_variables();
        Ok(runner)
    }

    fn set_variables(&mut self) {
        let inherited = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let mut path = self.directory.path().as_os_str().to_owned();
        if let Some(before) = inherited("PYTHONPATH") {
            path.push(":");
            path.push(before);
        }
        self.set("PYTHONPATH", path);
        let mut options = inherited("PYTEST_ADDOPTS").unwrap_or_default();
        options.push(format!(" -p {PROBE}"));
        self.set("PYTEST_ADDOPTS", options);
        // No compiled module is written beside its source.
        self.set("PYTHONDONTWRITEBYTECODE", "1");
        self.set("COVERAGE_FILE", self.place("coverage"));
        self.set("HYPOTHESIS_STORAGE_DIRECTORY", self.place("hypothesis"));
        // A program that would ask or colour for a person.
        self.set("PYTHONUNBUFFERED", "1");
    }

    /// Lets compiled modules be written, into the temporary directory, so that further runs need not compile them. `false` when the user's
    /// own runs compile them each time, too.
    pub(crate) fn compile_elsewhere(&mut self) -> bool {
        let inherited = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if inherited("PYTHONDONTWRITEBYTECODE") || inherited("PYTHONPYCACHEPREFIX") {
            return false;
        }
        self.variables.retain(|(name, _)| name != "PYTHONDONTWRITEBYTECODE");
        self.set("PYTHONPYCACHEPREFIX", self.place("compiled"));
        true
    }

    /// Sets a variable for all further runs.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.into(), value.as_ref().to_owned()));
    }

    /// Removes a variable from all further runs.
    pub(crate) fn remove(&mut self, name: &str) {
        self.variables.retain(|(other, _)| other != name);
        self.removed.push(name.to_owned());
    }

    /// A path in the temporary directory.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The path of the probe, which is also a program.
    pub(crate) fn probe(&self) -> PathBuf {
        self.place(&format!("{PROBE}.py"))
    }

    /// Runs a command once.
    ///
    /// # Errors
    /// A signal came.
    pub(crate) async fn run(
        &mut self,
        words: &[OsString],
        variables: &[(&str, String)],
        limit: Duration,
    ) -> Result<Ran, Interrupted> {
        let mut all = self.run_at_once(words, variables, limit, 1).await?;
        Ok(all.swap_remove(0))
    }

    /// Runs a command so many times at once.
    ///
    /// # Errors
    /// A signal came.
    pub(crate) async fn run_at_once(
        &mut self,
        words: &[OsString],
        variables: &[(&str, String)],
        limit: Duration,
        copies: usize,
    ) -> Result<Vec<Ran>, Interrupted> {
        let deadline = Instant::now() + limit;
        let mut running: Vec<Running> = (0..copies.max(1)).map(|_| self.start(words, variables)).collect();
        let mut signal = None;
        for one in &mut running {
            let Some(child) = &mut one.child else { continue };
            let left = deadline.saturating_duration_since(Instant::now());
            let group = one.group;
            tokio::select! {
                status = child.wait() => {
                    one.ran.ended = now();
                    one.ran.ending = Ending::Exited(status.map_or(u8::MAX, |status| Outcome::from(status).code));
                    one.child = None;
                }
                () = tokio::time::sleep(left) => {}
                () = stopped_at_terminal(group) => one.ran.ending = Ending::UsedTerminal,
                received = self.signals.next() => {
                    let Received { signal: caught, .. } = received;
                    signal = Some(caught);
                    break;
                }
            }
        }
        end_all(&mut running).await;
        match signal {
            Some(signal) => Err(Interrupted(signal)),
            None => Ok(running.into_iter().map(Running::read).collect()),
        }
    }

    fn start(&mut self, words: &[OsString], variables: &[(&str, String)]) -> Running {
        self.runs += 1;
        let directory = self.place(&format!("run-{}", self.runs));
        let mut running = Running {
            child: None,
            group: None,
            ran: Ran {
                ending: Ending::NotStarted(String::new()),
                begun: now(),
                ended: now(),
                processes: Vec::new(),
                errors: String::new(),
                output: String::new(),
            },
            directory: directory.clone(),
        };
        let started = self.spawn(words, variables, &directory);
        running.ran.begun = now();
        match started {
            Ok(child) => {
                running.group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
                (running.child, running.ran.ending) = (Some(child), Ending::TimedOut);
            }
            Err(error) => {
                let program = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
                running.ran.ending = Ending::NotStarted(format!("cannot run `{program}`: {error}"));
            }
        }
        running
    }

    fn spawn(&self, words: &[OsString], variables: &[(&str, String)], directory: &Path) -> std::io::Result<Child> {
        std::fs::create_dir_all(directory)?;
        let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments);
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("PGDIBS_DIAGNOSE_OUT", directory).envs(variables.iter().map(|(name, value)| (name, value)));
        // A group of its own, so that the deadline ends its children too; no terminal to read from.
        command.stdin(Stdio::null()).process_group(0);
        command.stdout(File::create(directory.join("output"))?).stderr(File::create(directory.join("errors"))?);
        command.spawn()
    }
}

/// A command that was started.
#[derive(Debug)]
struct Running {
    /// `None` once it has ended.
    child: Option<Child>,
    group: Option<Pid>,
    ran: Ran,
    directory: PathBuf,
}

impl Running {
    fn read(self) -> Ran {
        let text = |name: &str| {
            let bytes = std::fs::read(self.directory.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let ran = Ran {
            processes: events::read(&self.directory),
            errors: text("errors"),
            output: text("output"),
            ..self.ran
        };
        // A long measurement would fill the disk with outputs.
        let _kept_until_the_end = std::fs::remove_dir_all(&self.directory);
        ran
    }
}

/// Waits until a command has stopped because it read or set the terminal: its process group is in the background.
async fn stopped_at_terminal(group: Option<Pid>) {
    #[cfg(target_os = "linux")]
    if let Some(group) = group {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

        // The status stays for whoever waits for the end.
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            if let Ok(WaitStatus::Stopped(_, Signal::SIGTTIN | Signal::SIGTTOU)) = waitid(Id::Pid(group), flags) {
                return;
            }
            tokio::time::sleep(STOP_CHECK_INTERVAL).await;
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _has_no_waitid = group;
    std::future::pending().await
}

/// Ends what still runs: SIGTERM to the groups, then SIGKILL. Processes that outlived their command end too.
async fn end_all(running: &mut [Running]) {
    let still = |running: &[Running]| running.iter().any(|one| one.child.is_some());
    let signal_all = |running: &[Running], signal: Signal, only_running: bool| {
        for group in running.iter().filter(|one| !only_running || one.child.is_some()).filter_map(|one| one.group) {
            // It fails when no process of the group is left.
            let _ended = killpg(group, signal);
        }
    };
    if still(running) {
        signal_all(running, Signal::SIGTERM, true);
        // A stopped process gets no other signal.
        signal_all(running, Signal::SIGCONT, true);
        let deadline = Instant::now() + GRACE;
        for one in running.iter_mut() {
            let Some(child) = &mut one.child else { continue };
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, child.wait()).await.is_ok() {
                one.ran.ended = now();
                one.child = None;
            }
        }
    }
    signal_all(running, Signal::SIGKILL, false);
    for one in running.iter_mut() {
        if let Some(mut child) = one.child.take() {
            let _status = child.wait().await;
            one.ran.ended = now();
        }
    }
}

/// Seconds since the epoch, which processes on this machine share.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
