//! The directories of clusters: `initdb` runs once for each Postgres installation, and tests copy its result.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use pgdibs_embedded::Binaries;

use crate::process::{give_away, must_succeed, unprivileged};

/// The superuser of every cluster; its password has the characters that URLs, SQL and JSON escape.
pub const SUPERUSER: &str = "the-boss";
pub const PASSWORD: &str = "p@ss:w/rd?#%&'\\ é\"";
/// What Postgres stores of the password, with one round of hashing instead of 4096: in an unoptimised build the rounds of all connections
/// take a quarter of a test's processor time.
const VERIFIER: &str = "SCRAM-SHA-256$1:cGdkaWJzIHRlc3RzIHNhbA==$TpswbeR+SlHwMpVtyNvQlF0YzmEzPynK3Jl/G9wR874=:R6jglLlqgOw2c7ORAJ//ooA1vkca9a+/WQAOF/nVNmQ=";

const PREFIX: &str = "pgd-test-";

/// A killed test cannot remove its directory, and memory is scarce: the directory has the process id in its name, and the next
/// test removes it.
fn remove_directories_of_killed_tests(parent: &Path) {
    for entry in fs::read_dir(parent).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        let is_dead = |pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH);
        // While its server still ends there is a pid file; then a later test removes it.
        if owner.is_some_and(is_dead) && !entry.path().join("data/postmaster.pid").exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A new directory of the server's OS user, in memory if there is a /dev/shm, with a path short enough for a socket.
pub fn directory() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let parent = if shm.is_dir() { shm } else { Path::new("/tmp") };
    remove_directories_of_killed_tests(parent);
    directory_in(parent)
}

/// The same on another disk.
pub fn directory_in(parent: &Path) -> tempfile::TempDir {
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).unwrap();
    give_away(directory.path());
    directory
}

/// The data directory to copy; the first test creates it below the target directory.
fn seed(binaries: &Binaries) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // The test is at target/<profile>/deps/<test>.
    let kept = test.ancestors().nth(3).unwrap().join("tmp/seeds");
    fs::create_dir_all(&kept).unwrap();
    let name = binaries.dir.display().to_string().replace('/', "_");
    let lock = File::create(kept.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let seed = kept.join(format!("{name}-2"));
    if !seed.join("PG_VERSION").exists() {
        let directory = directory();
        let data = directory.path().join("data");
        // The size of a WAL file in MB. Each test copies one, 16 MB by default.
        initialise(binaries, directory.path(), &["--no-locale", "-E", "UTF8", "--wal-segsize=1"]);
        let making = kept.join(format!("{name}.making"));
        let _ = fs::remove_dir_all(&making);
        must_succeed(Command::new("cp").arg("-Rp").arg(&data).arg(&making));
        let _ = fs::remove_dir_all(&seed);
        fs::rename(&making, &seed).unwrap();
    }
    seed
}

/// Runs `initdb` for `data` in a directory of the server's OS user.
pub fn initialise(binaries: &Binaries, directory: &Path, arguments: &[&str]) {
    let password = directory.join("password");
    fs::write(&password, VERIFIER).unwrap();
    give_away(&password);
    let mut initdb = unprivileged(binaries.command("initdb"));
    initdb.args(["--no-sync", "-A", "scram-sha-256", "-U", SUPERUSER]).args(arguments);
    must_succeed(initdb.arg("-D").arg(directory.join("data")).arg(format!("--pwfile={}", password.display())));
}

/// Copies the data directory of a fresh cluster.
pub fn copy_seed(binaries: &Binaries, data: &Path) {
    must_succeed(Command::new("cp").arg("-Rp").arg(seed(binaries)).arg(data));
}
