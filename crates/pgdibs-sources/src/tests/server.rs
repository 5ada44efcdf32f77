//! A Postgres for the tests: the first test starts it; it stops with the last, also when the test process is killed.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use pgdibs_embedded::SearchRoots;

use super::super::BuildTarget;
use super::{PASSWORD, eventually};

/// Stops the server when standard input closes, which happens however the test process exits.
const SUPERVISOR: &str =
    r#"exec 3<&0; "$@" </dev/null & postgres=$!; read -r _ <&3; kill -QUIT $postgres; wait $postgres"#;

pub(super) struct TestServer {
    pub(super) bin: PathBuf,
    /// Dropped after the server has exited.
    _directory: tempfile::TempDir,
    port: u16,
    supervisor: Child,
}

static SHARED: Mutex<Weak<TestServer>> = Mutex::new(Weak::new());

impl TestServer {
    /// The server that all tests of this process share.
    pub(super) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    fn start() -> Self {
        let bin = programs();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        if let Some(user) = other_user() {
            nix::unistd::chown(root, Some(user.uid), Some(user.gid)).unwrap();
        }
        let mut password = tempfile::Builder::new().tempfile_in(root).unwrap();
        password.write_all(PASSWORD.as_bytes()).unwrap();
        if let Some(user) = other_user() {
            nix::unistd::chown(password.path(), Some(user.uid), None).unwrap();
        }
        let made = unprivileged(&bin.join("initdb"))
            .args(["-N", "-U", "builder", "-A", "scram-sha-256", "--no-locale", "-E", "UTF8", "-D"])
            .arg(root.join("data"))
            .arg(format!("--pwfile={}", password.path().display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let supervisor = unprivileged(Path::new("sh"))
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(bin.join("postgres"))
            .arg("-D")
            .arg(root.join("data"))
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k"])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(fs::File::create(root.join("log")).unwrap())
            .stderr(fs::File::create(root.join("errors")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { bin, _directory: directory, port, supervisor };
        eventually("the server takes connections", || server.psql("postgres", "select 1").status.success());
        server
    }

    /// The unaligned output of psql for `sql`.
    #[track_caller]
    pub(super) fn query(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        self.program("psql")
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql])
            .output()
            .unwrap()
    }

    /// A client program with the variables for the server.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string());
        command.env("PGUSER", "builder").env("PGPASSWORD", PASSWORD);
        command
    }

    /// A new, empty database to build in.
    pub(super) fn target(&self, database: &str) -> BuildTarget {
        self.query("postgres", &format!("create database {database}"));
        let encoded = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC);
        BuildTarget {
            url: format!("postgresql://builder:{encoded}@127.0.0.1:{}/{database}", self.port).into(),
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: "builder".to_owned(),
            password: PASSWORD.into(),
            database: database.to_owned(),
            psql: self.bin.join("psql"),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

fn programs() -> PathBuf {
    if let Ok(given) = std::env::var("PGDIBS_TEST_PG_BIN_DIR") {
        return given.into();
    }
    let found = pgdibs_embedded::find(None, &SearchRoots::of_this_system(), None);
    found.expect("these tests need Postgres: install it or set PGDIBS_TEST_PG_BIN_DIR").dir
}

/// Postgres refuses to run as root.
fn other_user() -> Option<nix::unistd::User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let named = |name| nix::unistd::User::from_name(name).ok().flatten();
    Some(named("postgres").or_else(|| named("nobody")).expect("as root these tests need the user postgres or nobody"))
}

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = other_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
    }
    command
}
