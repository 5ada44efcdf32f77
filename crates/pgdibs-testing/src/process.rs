//! Processes of tests: signals, pid files, the processes of a directory, and the OS user of servers.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};

/// Sends a signal; a process that has ended is ignored.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// The number in the first line of a file, as in a pid file.
pub fn number_in(file: &Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

/// All processes with this directory in their command line or as working directory; each starts with `/proc/<pid> `.
pub fn processes_in(directory: &Path) -> Vec<String> {
    let needle = directory.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.parse::<i32>().ok()?;
        let line = String::from_utf8_lossy(&std::fs::read(path.join("cmdline")).ok()?).replace('\0', " ");
        let cwd = std::fs::read_link(path.join("cwd")).unwrap_or_default().display().to_string();
        (line.contains(&needle) || cwd.contains(&needle)).then(|| format!("{} {line} in {cwd}", path.display()))
    });
    processes.collect()
}

/// Signals the process of a pid file if it uses this directory: the pid may belong to another process by now.
pub fn signal_if_in(directory: &Path, pid_file: &Path, which: Signal) {
    let is_own = |pid: &i32| processes_in(directory).iter().any(|line| line.starts_with(&format!("/proc/{pid} ")));
    if let Some(pid) = number_in(pid_file).filter(is_own) {
        signal(pid, which);
    }
}

/// The OS user for servers if root runs the tests: Postgres refuses to run as root.
fn other_user() -> Option<User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let named = |name| User::from_name(name).ok().flatten();
    Some(named("postgres").or_else(|| named("nobody")).expect("as root these tests need the user postgres or nobody"))
}

/// The command as an OS user that Postgres accepts.
pub fn unprivileged(mut command: Command) -> Command {
    if let Some(user) = other_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.current_dir("/");
    command
}

/// Gives a file or a directory to that user.
pub fn give_away(path: &Path) {
    if let Some(user) = other_user() {
        chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub fn must_succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
