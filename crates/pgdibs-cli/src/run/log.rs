//! The log of a daemon that `pgdibs run` starts: a file that outlives the run, or with `--log` the standard error of the run.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::Uid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;

use crate::output::message;

/// The time to read the rest of the log of a daemon that has exited.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The number of log lines in the error of a daemon that does not start.
const LINES: usize = 15;
/// The most log files of daemons that run at the same time.
const FILES: u32 = 100;

#[derive(Debug)]
pub(super) enum Log {
    /// A file. The daemon's standard error is its lock too, so that no other daemon truncates it.
    File { path: PathBuf, file: Option<File> },
    /// A pipe; `shown` repeats each line on standard error.
    Pipe { shown: bool, last: Arc<Mutex<VecDeque<String>>>, reader: Option<JoinHandle<()>> },
}

impl Log {
    pub(super) fn shown() -> Self {
        Self::Pipe { shown: true, last: Arc::default(), reader: None }
    }

    /// The log in a file. Without a directory for it, the log is kept for the error of a daemon that does not start.
    pub(super) fn to_file() -> Self {
        match directory().and_then(|directory| free_file(&directory)) {
            Ok((path, file)) => Self::File { path, file: Some(file) },
            Err(_) => Self::Pipe { shown: false, last: Arc::default(), reader: None },
        }
    }

    /// The standard error for the daemon.
    pub(super) fn stderr(&mut self) -> Stdio {
        match self {
            Self::File { file, .. } => file.take().map_or_else(Stdio::null, Stdio::from),
            Self::Pipe { .. } => Stdio::piped(),
        }
    }

    /// Reads the pipe to its end, so that the daemon never blocks on it; keeps the last lines.
    pub(super) fn read(&mut self, stderr: Option<ChildStderr>) {
        if let (Self::Pipe { shown, last, reader }, Some(stderr)) = (self, stderr) {
            let (shown, last) = (*shown, Arc::clone(last));
            *reader = Some(tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if shown {
                        message(&line);
                    }
                    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                    if last.len() == LINES {
                        last.pop_front();
                    }
                    last.push_back(line);
                }
            }));
        }
    }

    /// Reads what a daemon that has exited wrote into the pipe, with a timeout: a server that it left running may keep the pipe open.
    pub(super) async fn read_rest(&mut self) {
        if let Self::Pipe { reader, .. } = self
            && let Some(reader) = reader.take()
        {
            let _complete = tokio::time::timeout(TIMEOUT, reader).await;
        }
    }

    /// Where the log is, as the end of a sentence.
    pub(super) fn place(&self) -> String {
        match self {
            Self::File { path, .. } => format!("; it logs to {}", path.display()),
            Self::Pipe { .. } => String::new(),
        }
    }

    /// The end of the log, as the end of a sentence.
    pub(super) fn last_lines(&self) -> String {
        let (lines, place) = match self {
            Self::File { path, .. } => {
                let text = std::fs::read(path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                let all: Vec<String> = text.lines().map(str::to_owned).collect();
                (all[all.len().saturating_sub(LINES)..].to_vec(), format!("the last lines of {}", path.display()))
            }
            Self::Pipe { last, .. } => {
                let last = last.lock().unwrap_or_else(PoisonError::into_inner);
                (last.iter().cloned().collect(), "its last lines".to_owned())
            }
        };
        match lines.is_empty() {
            true => String::new(),
            false => {
                format!("; {place}:\n{}", lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

/// The directory of this user for the logs of daemons that a command starts, as for those that the Python client starts.
fn directory() -> std::io::Result<PathBuf> {
    let user = Uid::current();
    let path = std::env::temp_dir().join(format!("pgdibs-{user}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Another user may have made it, or a link in its place.
    let found = std::fs::symlink_metadata(&path)?;
    match found.is_dir() && found.uid() == user.as_raw() {
        true => Ok(path),
        false => Err(std::io::ErrorKind::PermissionDenied.into()),
    }
}

/// The first log file that no running daemon has, emptied and locked.
fn free_file(directory: &Path) -> std::io::Result<(PathBuf, File)> {
    for number in 0..FILES {
        let name = if number == 0 { "daemon-run.log".to_owned() } else { format!("daemon-run-{number}.log") };
        let path = directory.join(name);
        let file = File::options().append(true).create(true).open(&path)?;
        if file.try_lock().is_ok() {
            file.set_len(0)?;
            return Ok((path, file));
        }
    }
    Err(std::io::ErrorKind::WouldBlock.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn free_file_skips_those_in_use_and_empties_old_ones() {
        let directory = tempfile::tempdir().unwrap();
        let (first, mut file) = free_file(directory.path()).unwrap();
        file.write_all(b"x\n").unwrap();
        let (second, _file) = free_file(directory.path()).unwrap();
        assert_ne!(first, second);
        assert_eq!(std::fs::read_to_string(&first).unwrap(), "x\n");
        drop(file);
        assert_eq!(free_file(directory.path()).unwrap().0, first);
        assert_eq!(std::fs::read_to_string(&first).unwrap(), "");
    }
}
