//! Data directories to copy: `initdb` runs once per Postgres, its result stays below `target/tmp`.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgdibs_embedded::Binaries;

/// The superuser of every cluster; its password has the characters that URLs and SQL escape.
pub(crate) const SUPERUSER: &str = "the-boss";
pub(crate) const PASSWORD: &str = "p@ss:w/rd?#%&'\\ é\"";

/// Postgres refuses to run as root.
pub(crate) fn other_user() -> Option<nix::unistd::User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let named = |name| nix::unistd::User::from_name(name).ok().flatten();
    Some(named("postgres").or_else(|| named("nobody")).expect("as root these tests need the user postgres or nobody"))
}

/// A command that runs as an OS user that Postgres accepts.
pub(crate) fn unprivileged(mut command: Command) -> Command {
    if let Some(user) = other_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.current_dir("/");
    command
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const PREFIX: &str = "pgdibs-real-";

/// A killed test cannot remove its directory, and memory is scarce: the directory has the process id in its name, and the next test removes it.
fn remove_what_killed_tests_left(parent: &Path) {
    for entry in fs::read_dir(parent).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        let is_dead =
            |pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH);
        // While its server still ends there is a pid file; then a later test removes it.
        if owner.is_some_and(is_dead) && !entry.path().join("data/postmaster.pid").exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A fresh directory of the server's OS user, in memory if there is a /dev/shm; short enough for a socket's path.
pub(crate) fn directory() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let parent = if shm.is_dir() { shm } else { Path::new("/tmp") };
    remove_what_killed_tests_left(parent);
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).unwrap();
    if let Some(user) = other_user() {
        nix::unistd::chown(directory.path(), Some(user.uid), Some(user.gid)).unwrap();
    }
    directory
}

/// The data directory to copy from; the first test creates it.
pub(crate) fn of(binaries: &Binaries) -> PathBuf {
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seeds");
    fs::create_dir_all(&kept).unwrap();
    let place = binaries.dir.display().to_string().replace('/', "_");
    let lock = File::create(kept.join(format!("{place}.lock"))).unwrap();
    lock.lock().unwrap();
    let seed = kept.join(format!("{place}-1"));
    if !seed.join("PG_VERSION").exists() {
        let directory = directory();
        let (data, word) = (directory.path().join("data"), directory.path().join("password"));
        fs::write(&word, PASSWORD).unwrap();
        if let Some(user) = other_user() {
            nix::unistd::chown(&word, Some(user.uid), None).unwrap();
        }
        let mut initdb = unprivileged(binaries.command("initdb"));
        initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "scram-sha-256", "-U", SUPERUSER]);
        run(initdb.arg("-D").arg(&data).arg(format!("--pwfile={}", word.display())));
        let making = kept.join(format!("{place}.making"));
        let _ = fs::remove_dir_all(&making);
        run(Command::new("cp").arg("-Rp").arg(&data).arg(&making));
        let _ = fs::remove_dir_all(&seed);
        fs::rename(&making, &seed).unwrap();
    }
    seed
}
