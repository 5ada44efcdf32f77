//! Runs the user's command with variables, and passes signals on to it.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::error::CliError;
use super::signals::{Signals, exit_code_of};
use pgdibs::connection_url::MISLEADING;

/// The exit code of shells for a command that exists and cannot be run.
const NOT_EXECUTABLE: u8 = 126;
/// The exit code of shells for a command that does not exist.
const NOT_FOUND: u8 = 127;

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Its exit code, or 128 + the number of the signal that terminated it.
    pub(super) code: u8,
    pub(super) signal: Option<i32>,
}

impl Outcome {
    /// The signal that ended it, also when a shell in between reports that as an exit code.
    fn ended_by(self) -> Option<Signal> {
        let signal = self.signal.unwrap_or_else(|| i32::from(self.code) - 128);
        Signal::try_from(signal).ok()
    }
}

impl From<ExitStatus> for Outcome {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self { code: u8::try_from(code & 0xff).unwrap_or(u8::MAX), signal: None },
            (None, Some(signal)) => Self { code: exit_code_of(signal), signal: Some(signal) },
            (None, None) => Self { code: u8::MAX, signal: None },
        }
    }
}

/// A running command. It is in the process group of this process, so that signals of the terminal and to the group reach it too.
#[derive(Debug)]
pub(super) struct RunningCommand {
    child: Child,
}

impl RunningCommand {
    /// Starts a command with the inherited variables and `variables`, without those in `removed` and those that would make libpq ignore
    /// `variables`.
    ///
    /// # Errors
    /// The exit codes are those of shells: 127 when the command does not exist, 126 when it cannot be run.
    pub(super) fn start(
        words: &[OsString],
        variables: &[(String, String)],
        removed: &[&str],
    ) -> Result<Self, CliError> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(
                CliError::usage("there is no command").hint("write it after --, such as `pgdibs run -- pytest`")
            );
        };
        let mut command = Command::new(program);
        command.args(arguments);
        for name in MISLEADING.iter().chain(removed) {
            command.env_remove(name);
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        match command.spawn() {
            Ok(child) => Ok(Self { child }),
            Err(error) => {
                let shown = program.to_string_lossy();
                let error = match error.kind() {
                    ErrorKind::NotFound => CliError::failed(format!("there is no command `{shown}`"))
                        .hint("pgdibs runs the words after -- without a shell; for shell syntax write -- sh -c '...'")
                        .exit_code(NOT_FOUND),
                    _ => CliError::failed(format!("cannot run `{shown}`: {error}")).exit_code(NOT_EXECUTABLE),
                };
                Err(error)
            }
        }
    }

    /// Sends a signal to the command, unless it has exited.
    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid {
            // The child is not reaped, so the id cannot belong to another process. The call fails only when the child has exited.
            let _exited = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits until the command exits; passes on signals that a process sends to this process.
    ///
    /// # Errors
    /// The operating system does not report its exit status.
    pub(super) async fn wait(&mut self, signals: &mut Signals) -> Result<Outcome, CliError> {
        let mut seen = Vec::new();
        let status = loop {
            let received = tokio::select! {
                status = self.child.wait() => break status,
                received = signals.next() => received,
            };
            seen.push(received.signal);
            if received.from_process {
                self.signal(received.signal);
            }
        };
        let outcome = Outcome::from(
            status.map_err(|error| CliError::failed(format!("cannot read the exit status of the command: {error}")))?,
        );
        // A Ctrl-C can end the command before it arrives here. It is not a second one, which would interrupt the cleanup.
        if let Some(signal) = outcome.ended_by().filter(|signal| !seen.contains(signal)) {
            signals.ignore_once(signal);
        }
        Ok(outcome)
    }
}

/// The command as text for people, shortened.
pub(super) fn display(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    super::table::shortened(&words.join(" "), 60)
}
