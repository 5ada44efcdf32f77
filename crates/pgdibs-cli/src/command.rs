//! The user's command: started with variables, told our signals, waited for.

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

/// As shells say it: the command is there, but cannot be run.
const NOT_EXECUTABLE: u8 = 126;
/// As shells say it: there is no such command.
const NOT_FOUND: u8 = 127;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its own, or 128 + the number of the signal that ended it.
    pub(super) code: u8,
    /// That signal.
    pub(super) signal: Option<i32>,
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self { code: u8::try_from(code & 0xff).unwrap_or(u8::MAX), signal: None },
            (None, Some(signal)) => Self { code: exit_code_of(signal), signal: Some(signal) },
            (None, None) => Self { code: u8::MAX, signal: None },
        }
    }
}

/// A command that runs. It is in our process group, so that the terminal and whoever ends the group reach it too.
#[derive(Debug)]
pub(super) struct RunningCommand {
    child: Child,
}

impl RunningCommand {
    /// Starts it with `variables` on top of ours, and without those that are `removed` or would lead libpq past them.
    ///
    /// # Errors
    /// With the exit code shells have for it: 127 when there is no such command, 126 when it cannot be run.
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
                let told = match error.kind() {
                    ErrorKind::NotFound => CliError::failed(format!("there is no command `{shown}`"))
                        .hint("what stands after -- is run as it is, without a shell; for shell syntax write -- sh -c '...'")
                        .exit(NOT_FOUND),
                    _ => CliError::failed(format!("cannot run `{shown}`: {error}")).exit(NOT_EXECUTABLE),
                };
                Err(told)
            }
        }
    }

    /// Sends it a signal, unless it has ended.
    pub(super) fn tell(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid {
            // Our own child, not yet waited for: the number cannot belong to another process. It fails only when it has ended.
            let _ended_meanwhile = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits for its end; signals sent to us are passed on to it.
    ///
    /// # Errors
    /// When the system cannot tell how it ended.
    pub(super) async fn end(&mut self, signals: &mut Signals) -> Result<Ended, CliError> {
        loop {
            let received = tokio::select! {
                status = self.child.wait() => {
                    return match status {
                        Ok(status) => Ok(Ended::from(status)),
                        Err(error) => Err(CliError::failed(format!("cannot tell how the command ended: {error}"))),
                    };
                }
                received = signals.next() => received,
            };
            if received.to_us_alone {
                self.tell(received.signal);
            }
        }
    }
}

/// The command in words for people, shortened.
pub(super) fn shown(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    super::table::shortened(&words.join(" "), 60)
}
