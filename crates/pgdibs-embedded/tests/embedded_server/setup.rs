//! Support: a data directory per test, daemons in it, and the cleanup of all processes.

use pgdibs_postgres::public_connect::PgProbe;
use secrecy::ExposeSecret as _;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use pgdibs_embedded::{Embedded, EmbeddedError, EmbeddedOptions, Progress, start};
use pgdibs_testing::process::{number_in, processes_in, signal_if_in};
use pgdibs_testing::wait::until_async;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;

pub(crate) struct Setup {
    dir: Option<TempDir>,
    pub(crate) data_dir: PathBuf,
    pub(crate) linger: Duration,
    pub(crate) max_connections: u32,
    stages: Mutex<Vec<Progress>>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::below("data")
    }

    pub(crate) fn below(below: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // When root runs the tests, the server's user must reach its data.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let data_dir = dir.path().join(below);
        Self {
            dir: Some(dir),
            data_dir,
            linger: Duration::from_secs(120),
            max_connections: 40,
            stages: Mutex::default(),
        }
    }

    pub(crate) fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            data_dir: Some(self.data_dir.clone()),
            bin_dir: std::env::var_os("PGDIBS_PG_BIN_DIR").map(PathBuf::from),
            listen: None,
            linger: self.linger,
            max_connections: self.max_connections,
            supervisor_exe: example(),
        }
    }

    pub(crate) async fn try_start(&self) -> Result<Embedded, EmbeddedError> {
        self.stages.lock().unwrap().clear();
        start(&self.options(), &PgProbe, |stage| self.stages.lock().unwrap().push(stage)).await
    }

    pub(crate) async fn start(&self) -> Embedded {
        self.try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The stages of the last start.
    pub(crate) fn stages(&self) -> Vec<Progress> {
        self.stages.lock().unwrap().clone()
    }

    /// The reason for which the last start recreated the cluster.
    pub(crate) fn recreated(&self) -> Option<String> {
        self.stages().into_iter().find_map(|stage| match stage {
            Progress::Recreated { why } => Some(why),
            _ => None,
        })
    }

    /// A daemon in a process of its own, in a process group of its own.
    pub(crate) fn daemon(&self) -> Daemon {
        let mut command = Command::new(example());
        command.arg(&self.data_dir).arg(self.linger.as_millis().to_string()).args(self.options().bin_dir);
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Daemon { child, output, printed: String::new() }
    }

    pub(crate) fn supervisor_pid(&self) -> i32 {
        number_in(&self.data_dir.join("supervisor.lock")).unwrap()
    }

    pub(crate) fn postmaster_pid(&self) -> i32 {
        number_in(&self.data_dir.join("pgdata/postmaster.pid")).unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.data_dir.join(name)).unwrap()
    }

    pub(crate) fn processes(&self) -> Vec<String> {
        processes_in(self.dir.as_ref().unwrap().path())
    }

    pub(crate) async fn until_nothing_runs(&self) {
        until_async("nothing runs in the data directory", async || {
            let processes = self.processes();
            if processes.is_empty() { Ok(()) } else { Err(format!("{processes:?}")) }
        })
        .await;
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        for (file, which) in [
            ("supervisor.lock", Signal::SIGQUIT),
            ("supervisor.lock", Signal::SIGTERM),
            ("pgdata/postmaster.pid", Signal::SIGQUIT),
        ] {
            signal_if_in(self.dir.as_ref().unwrap().path(), &self.data_dir.join(file), which);
        }
        if std::thread::panicking() {
            let kept = self.dir.take().map(TempDir::keep);
            println!("the server of this test is in {kept:?}; running: {:?}", self.data_dir);
        }
    }
}

/// A daemon process, killed when the test is over.
pub(crate) struct Daemon {
    child: Child,
    output: BufReader<ChildStdout>,
    printed: String,
}

impl Daemon {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Reads until a line contains `text`; returns everything printed until then.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> &str {
        loop {
            let before = self.printed.len();
            let read = self.output.read_line(&mut self.printed).unwrap();
            assert!(read > 0, "the daemon exited before it printed `{text}`: {}", self.printed);
            if self.printed[before..].contains(text) {
                return &self.printed;
            }
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        pgdibs_testing::process::signal(self.pid(), signal);
        self.child.wait().unwrap();
    }

    /// Sends SIGINT to the process group, as Ctrl-C in a terminal does.
    pub(crate) fn interrupt_group(&mut self) {
        nix::sys::signal::killpg(Pid::from_raw(self.pid()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example beside this test. Cargo builds it if it is missing or out of date, which `cargo test --test` does not do.
fn example() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        // For the whole workspace, as `cargo build --all-targets` does: for one package, cargo chooses other features of the
        // dependencies and compiles them again.
        build.args(["build", "--quiet", "--workspace", "--example", "embedded_server"]);
        // Build scripts of dependencies would take cargo's variables about this package for a change.
        for (name, _) in std::env::vars() {
            if ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CFG_", "OUT_DIR"].iter().any(|prefix| name.starts_with(prefix))
            {
                build.env_remove(name);
            }
        }
        assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        let own = std::env::current_exe().unwrap();
        own.ancestors().nth(2).unwrap().join("examples/embedded_server")
    });
    built.clone()
}

pub(crate) async fn connect(server: &Embedded) -> PgConnection {
    PgConnection::connect(server.url().expose_secret()).await.unwrap()
}

pub(crate) async fn execute(server: &Embedded, sql: &'static str) {
    let mut connection = connect(server).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

pub(crate) async fn text(server: &Embedded, sql: &str) -> String {
    let mut connection = connect(server).await;
    let text = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    text
}

/// The superuser's URL, for comparisons.
pub(crate) fn url(server: &Embedded) -> String {
    server.url().expose_secret().to_owned()
}
