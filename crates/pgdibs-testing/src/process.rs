//! Processes of tests: signals, pid files, the processes of a directory, and the OS user of servers.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdibs_embedded::os_user::{self, OsUser};

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
fn other_user() -> Option<OsUser> {
    os_user::for_server().unwrap_or_else(|error| panic!("{error}"))
}

/// The command as an OS user that Postgres accepts.
pub fn unprivileged(mut command: Command) -> Command {
    os_user::run_as(&mut command, other_user().as_ref());
    command.current_dir("/");
    command
}

/// Gives a file or a directory to that user.
pub fn give_away(path: &Path) {
    os_user::give_to(path, other_user().as_ref()).unwrap_or_else(|error| panic!("{error}"));
}

/// Runs a command that must succeed.
#[track_caller]
pub fn must_succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
