//! The processes of a server as the system shows them: its pid file, whether they run, and how orphans are stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::error::EmbeddedError;
use super::layout::Layout;

const POLL: Duration = Duration::from_millis(10);

/// The content of `postmaster.pid`; Postgres's `utils/pidfile.h` describes its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: i32,
    pub(super) port: Option<u16>,
    /// `starting`, `ready`, `stopping` or `standby`; empty before the server has written it.
    pub(super) status: String,
}

impl PidFile {
    pub(super) fn read(layout: &Layout) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(layout.postmaster_pid_file()).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        Some(Self {
            pid: lines.first()?.trim().parse().ok().filter(|pid| *pid > 1)?,
            port: lines.get(3).and_then(|line| line.trim().parse().ok()),
            status: lines.get(7).map(|line| line.trim().to_owned()).unwrap_or_default(),
        })
    }
}

/// Stops the processes of a server whose supervisor has died, so that a new server can start. Returns the id of its postmaster, if
/// that was running.
///
/// # Errors
/// [`EmbeddedError::StillRunning`] when a process does not exit.
pub(super) async fn stop_orphans(layout: &Layout) -> Result<Option<i32>, EmbeddedError> {
    let pgdata = layout.pgdata();
    let orphan = PidFile::read(layout).map(|file| file.pid).filter(|pid| is_server_of(*pid, &pgdata));
    let remaining = || {
        let mut pids = processes_in(&pgdata);
        pids.extend(orphan.filter(|pid| !pids.contains(pid) && is_server_of(*pid, &pgdata)));
        pids
    };
    // First a fast shutdown, then harder ones for a server that hangs and for backends that outlived their postmaster.
    for (signal, patience) in [(Signal::SIGINT, 5), (Signal::SIGQUIT, 3), (Signal::SIGKILL, 3)] {
        match (signal, orphan) {
            // A backend takes SIGINT as the request to cancel its query.
            (Signal::SIGINT, postmaster) => postmaster.into_iter().for_each(|pid| send(pid, signal)),
            _ => remaining().into_iter().for_each(|pid| send(pid, signal)),
        }
        let deadline = Instant::now() + Duration::from_secs(patience);
        while Instant::now() < deadline {
            if remaining().is_empty() {
                return Ok(orphan);
            }
            tokio::time::sleep(POLL).await;
        }
    }
    let pids: Vec<String> = remaining().iter().map(ToString::to_string).collect();
    let status = format!("processes {}", pids.join(", "));
    Err(EmbeddedError::StillRunning { data_dir: layout.data_dir().to_owned(), status })
}

/// Removes the pid and socket files of a server that has exited. Postgres refuses to start when another process of its user has the
/// id in that file.
pub(super) fn remove_stale_files(layout: &Layout) {
    let _ = std::fs::remove_file(layout.postmaster_pid_file());
    for entry in std::fs::read_dir(layout.socket_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Sends a signal to a process; it is no error when the process has exited.
pub(super) fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

fn is_alive(pid: i32) -> bool {
    !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// Whether `pid` is a Postgres process of this cluster; the id may belong to an unrelated process by now.
fn is_server_of(pid: i32, pgdata: &Path) -> bool {
    if !is_alive(pid) {
        return false;
    }
    if cfg!(target_os = "linux") {
        return works_in(pid, pgdata);
    }
    let output = std::process::Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    output.is_ok_and(|output| {
        let command = String::from_utf8_lossy(&output.stdout).into_owned();
        command.contains("postgres") && command.contains(&pgdata.display().to_string())
    })
}

/// The working directory of every Postgres process is its cluster's, and it never changes.
fn works_in(pid: i32, pgdata: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim() == "postgres" && std::fs::read_link(process.join("cwd")).is_ok_and(|dir| dir == pgdata)
}

/// The processes of this cluster, including backends whose postmaster was killed. Empty where there is no `/proc`.
fn processes_in(pgdata: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| works_in(*pid, pgdata)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_file_parses_at_every_stage() {
        let full = "4711\n/data\n1700000000\n23456\n/sockets\n127.0.0.1\n  16  3\nready   \n";
        let file = PidFile { pid: 4711, port: Some(23456), status: "ready".to_owned() };
        assert_eq!(PidFile::parse(full), Some(file));
        let incomplete = PidFile { pid: 4711, port: None, status: String::new() };
        assert_eq!(PidFile::parse("4711\n/data\n"), Some(incomplete));
        assert_eq!((PidFile::parse(""), PidFile::parse("0\n"), PidFile::parse("-1\n")), (None, None, None));
    }

    #[test]
    fn unrelated_process_is_no_server_of_cluster() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_alive(own));
        assert!(!is_server_of(own, &std::env::current_dir().unwrap()));
    }
}
