//! A given server, which the test starts, kills and restarts.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::User;
use pgdibs_embedded::{Binaries, SearchRoots, find};

use super::kept::keep_log;
use super::{Session, bin_dir, signal, until};

/// The superuser's password, with characters that URLs must escape.
const PASSWORD: &str = "p@ss:w/rd?#%&";
/// The same, escaped.
const ENCODED: &str = "p%40ss%3Aw%2Frd%3F%23%25%26";

/// Stops the server when standard input ends, as it does at every end of the test process.
const KEEPER: &str = r#"exec 3<&0; "$@" </dev/null & postgres=$!; read -r _ <&3; kill -QUIT $postgres; wait $postgres"#;

/// A non-durable cluster on loopback; the drop deletes it.
pub(crate) struct Cluster {
    binaries: Binaries,
    directory: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    keeper: RefCell<Option<Child>>,
}

impl Cluster {
    /// The superuser's password, raw and escaped.
    pub(crate) fn passwords() -> [&'static str; 2] {
        [PASSWORD, ENCODED]
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A running cluster.
    #[track_caller]
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_with(settings, &[])
    }

    /// The same with environment variables for the server.
    #[track_caller]
    pub(crate) fn start_with(settings: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut cluster = Self::down(settings);
        cluster.environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        cluster.start_again();
        cluster
    }

    /// The same on another disk.
    #[track_caller]
    pub(crate) fn start_on(disk: &Path, settings: &[&str]) -> Self {
        let cluster = Self::down_in(directory_in(disk), settings);
        cluster.start_again();
        cluster
    }

    /// A cluster that is not running yet.
    #[track_caller]
    pub(crate) fn down(settings: &[&str]) -> Self {
        Self::down_in(directory(), settings)
    }

    #[track_caller]
    fn down_in(directory: tempfile::TempDir, settings: &[&str]) -> Self {
        let given = bin_dir().map(PathBuf::from);
        let binaries = find(given.as_deref(), &SearchRoots::of_this_system(), None).unwrap();
        let seed = seed(&binaries);
        must_succeed(Command::new("cp").arg("-Rp").arg(seed).arg(directory.path().join("data")));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self { binaries, directory, port, settings, environment: Vec::new(), keeper: RefCell::new(None) }
    }

    /// Starts the server and waits until it answers.
    #[track_caller]
    pub(crate) fn start_again(&self) {
        let mut command = Command::new("sh");
        command.env_clear();
        let postgres = self.binaries.command("postgres");
        command.envs(postgres.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["-c", KEEPER, "keeper"]).arg(postgres.get_program()).arg("-D").arg(self.data());
        command.args(["-p", &self.port.to_string(), "-k"]).arg(self.directory.path());
        let settings = [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "max_connections=60",
            "shared_buffers=32MB",
        ];
        for setting in settings.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        *self.keeper.borrow_mut() = Some(unprivileged(command).spawn().unwrap());
        until("the cluster answers", || {
            Session::try_open(&self.url())
                .map(drop)
                .map_err(|error| format!("{error}; log: {}", fs::read_to_string(self.log_file()).unwrap_or_default()))
        });
    }

    /// The same as `pg_ctl stop -m immediate`: like a crash, without a checkpoint.
    pub(crate) fn crash(&self) {
        self.end(Signal::SIGQUIT);
    }

    /// The same as `pg_ctl stop -m fast`: ends the sessions and makes a checkpoint.
    pub(crate) fn stop(&self) {
        self.end(Signal::SIGINT);
    }

    /// `kill -9` of the postmaster; its children end afterwards.
    pub(crate) fn kill_postmaster(&self) {
        let pids = self.pids();
        self.end(Signal::SIGKILL);
        until("the postmaster's children have ended", || {
            let left: Vec<_> = pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// Waits until it answers, and starts it again if it has ended.
    #[track_caller]
    pub(crate) fn up_again(&self) {
        until("the cluster answers again", || {
            let Err(error) = Session::try_open(&self.url()) else { return Ok(()) };
            if !self.runs() {
                self.dismiss_keeper();
                self.start_again();
            }
            Err(error.to_string())
        });
    }

    /// Whether the postmaster runs. A killed one leaves its pid file.
    fn runs(&self) -> bool {
        let pid = self.postmaster_pid();
        pid > 0 && Path::new(&format!("/proc/{pid}")).exists()
    }

    fn end(&self, how: Signal) {
        signal(self.postmaster_pid(), how);
        if how == Signal::SIGINT {
            // It makes a checkpoint first.
            until("the postmaster has ended", || if self.runs() { Err(String::new()) } else { Ok(()) });
        }
        self.dismiss_keeper();
    }

    /// Its end stops the postmaster if that still runs.
    fn dismiss_keeper(&self) {
        if let Some(mut keeper) = self.keeper.borrow_mut().take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    /// A crash with the loss of all data, like that of a container with its data in memory. The server stays down.
    pub(crate) fn lose_all_data(&mut self) {
        self.crash();
        fs::remove_dir_all(self.data()).unwrap();
        must_succeed(Command::new("cp").arg("-Rp").arg(seed(&self.binaries)).arg(self.data()));
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn postmaster_pid(&self) -> i32 {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        text.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(0)
    }

    /// All processes of the server, the postmaster first.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let postmaster = self.postmaster_pid();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(postmaster).chain(children).collect()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The superuser's URL.
    pub(crate) fn url(&self) -> String {
        self.superuser_url("postgres")
    }

    /// The superuser's URL with another port.
    pub(crate) fn url_by(&self, port: u16) -> String {
        format!("postgresql://boss:{ENCODED}@127.0.0.1:{port}/postgres")
    }

    pub(crate) fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The superuser's URL of a database.
    pub(crate) fn superuser_url(&self, database: &str) -> String {
        self.url_of("boss", ENCODED, database)
    }

    /// A session of the superuser.
    #[track_caller]
    pub(crate) fn superuser(&self, database: &str) -> Session {
        Session::open(&self.superuser_url(database))
    }

    /// The output of `pg_dump` for a database.
    #[track_caller]
    pub(crate) fn dump(&self, database: &str) -> String {
        let mut command = self.binaries.command("pg_dump");
        command.arg(self.url_of("boss", ENCODED, database));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same without the random word in `\\restrict`, for comparison with another dump.
    #[track_caller]
    pub(crate) fn comparable_dump(&self, database: &str) -> String {
        let random = |line: &&str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
        self.dump(database).lines().filter(|line| !random(line)).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let from = log.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
            println!("the end of the log of the cluster:\n{}", &log[from..]);
        }
        if self.keeper.borrow().is_some() {
            // A process stopped with SIGSTOP handles only this signal and SIGKILL.
            for pid in self.pids_or_none() {
                signal(pid, Signal::SIGCONT);
            }
            self.crash();
        }
        keep_log("postgres", &self.log_file());
    }
}

impl Cluster {
    fn pids_or_none(&self) -> Vec<i32> {
        if self.postmaster_pid() == 0 { Vec::new() } else { self.pids() }
    }
}

/// A new directory of the server's user, with a path short enough for a socket.
fn directory() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    directory_in(if shm.is_dir() { shm } else { Path::new("/tmp") })
}

fn directory_in(parent: &Path) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("pgd-").tempdir_in(parent).unwrap();
    if let Some(user) = other_user() {
        nix::unistd::chown(directory.path(), Some(user.uid), Some(user.gid)).unwrap();
    }
    directory
}

/// Postgres does not run as root.
fn other_user() -> Option<User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let named = |name| User::from_name(name).ok().flatten();
    Some(named("postgres").or_else(|| named("nobody")).expect("as root these tests need the user postgres or nobody"))
}

fn unprivileged(mut command: Command) -> Command {
    if let Some(user) = other_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.current_dir("/");
    command
}

#[track_caller]
fn must_succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The data directory to copy; the first test runs `initdb` once per Postgres installation.
fn seed(binaries: &Binaries) -> PathBuf {
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("e2e-seeds");
    fs::create_dir_all(&kept).unwrap();
    let name = binaries.dir.display().to_string().replace('/', "_");
    let lock = File::create(kept.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let seed = kept.join(format!("{name}-1"));
    if !seed.join("PG_VERSION").exists() {
        let directory = directory();
        let (data, word) = (directory.path().join("data"), directory.path().join("password"));
        fs::write(&word, PASSWORD).unwrap();
        if let Some(user) = other_user() {
            nix::unistd::chown(&word, Some(user.uid), None).unwrap();
        }
        let mut initdb = unprivileged(binaries.command("initdb"));
        initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "scram-sha-256", "-U", "boss"]);
        must_succeed(initdb.arg("-D").arg(&data).arg(format!("--pwfile={}", word.display())));
        let making = kept.join(format!("{name}.making"));
        let _ = fs::remove_dir_all(&making);
        must_succeed(Command::new("cp").arg("-Rp").arg(&data).arg(&making));
        let _ = fs::remove_dir_all(&seed);
        fs::rename(&making, &seed).unwrap();
    }
    seed
}
