//! A Postgres for the tests: the first test starts it; it stops with the last, also when the test process is killed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use pgdibs_testing::cluster::Cluster;

use super::super::BuildTarget;
use super::PASSWORD;

/// The superuser that dumps name as the owner.
const USER: &str = "builder";

pub(super) struct TestServer {
    pub(super) bin: PathBuf,
    cluster: Cluster,
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
        let cluster = Cluster::start(&[]);
        cluster.superuser("postgres").run(&format!("create role {USER} superuser login password '{PASSWORD}'"));
        Self { bin: cluster.binaries.dir.clone(), cluster }
    }

    /// The unaligned output of psql for `sql`.
    #[track_caller]
    pub(super) fn query(&self, database: &str, sql: &str) -> String {
        let arguments = ["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql];
        let output = self.program("psql").args(arguments).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A client program with the variables for the server.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.cluster.port().to_string());
        command.env("PGUSER", USER).env("PGPASSWORD", PASSWORD);
        command
    }

    pub(super) fn port(&self) -> String {
        self.cluster.port().to_string()
    }

    /// A new, empty database to build in.
    pub(super) fn target(&self, database: &str) -> BuildTarget {
        self.query("postgres", &format!("create database {database}"));
        BuildTarget {
            url: self.cluster.url_of(USER, PASSWORD, database).into(),
            host: "127.0.0.1".to_owned(),
            port: self.cluster.port(),
            user: USER.to_owned(),
            password: PASSWORD.into(),
            database: database.to_owned(),
            psql: self.bin.join("psql"),
            copied: None,
        }
    }
}
