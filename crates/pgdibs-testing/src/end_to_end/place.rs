//! The directory of a test: the daemon's configuration, its logs, and the data of the embedded server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::daemon::Daemon;
use super::program::pgdibs;
use crate::logs::keep_log;
use crate::process::{number_in, processes_in, signal_if_in};
use crate::session::Session;
use crate::wait::until;

/// The drop ends all its processes. A failed test keeps the directory.
pub struct Place {
    directory: Option<TempDir>,
    path: PathBuf,
    server_url: Option<String>,
    daemons: AtomicUsize,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// For daemons with an embedded server.
    pub fn new() -> Self {
        // The path of Postgres's socket must fit into 107 bytes.
        let directory = tempfile::Builder::new().prefix("pgd-").tempdir_in("/tmp").unwrap();
        // If root runs the tests, the server's user needs access to its data.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let path = directory.path().to_owned();
        Self { directory: Some(directory), path, server_url: None, daemons: AtomicUsize::new(0) }
    }

    /// For daemons on a given server.
    pub fn on(server_url: &str) -> Self {
        let mut place = Self::new();
        place.server_url = Some(server_url.to_owned());
        place
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory of the embedded server.
    pub fn data_dir(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes a file; `pgdibs.toml` is the configuration of the next daemon.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The program with this place's configuration.
    pub fn program(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = pgdibs(&self.path, arguments);
        command.env("PGDIBS_DATA_DIR", self.data_dir()).env("PGDIBS_LISTEN", "127.0.0.1:0");
        command.env("PGDIBS_LOG_FORMAT", "text").env("PGDIBS_LOG", "info,pgdibs=debug");
        // The server of a failed test ends soon.
        command.env("PGDIBS_LINGER_SECONDS", "30").env("PGDIBS_DISK_FLOOR_MB", "16");
        // A pool that grew under load shrinks within the deadlines of the tests.
        command.env("PGDIBS_IDLE_SECONDS", "1");
        if let Some(url) = &self.server_url {
            command.env("PGDIBS_SERVER_URL", url);
        }
        command.envs(variables.iter().copied());
        command
    }

    pub fn next_log(&self) -> PathBuf {
        self.path.join(format!("daemon-{}.log", self.daemons.fetch_add(1, Ordering::Relaxed)))
    }

    /// A daemon whose server may still be starting.
    #[track_caller]
    pub fn start(&self, variables: &[(&str, &str)]) -> Daemon {
        Daemon::start(self.program(&["serve"], variables), &self.next_log())
    }

    /// A daemon that is ready.
    #[track_caller]
    pub fn daemon(&self, variables: &[(&str, &str)]) -> Daemon {
        let mut daemon = self.start(variables);
        daemon.until_ready();
        daemon
    }

    /// The embedded server's superuser.
    #[track_caller]
    pub fn superuser(&self, database: &str) -> Session {
        let read = |name: &str| std::fs::read_to_string(self.data_dir().join(name)).unwrap().trim().to_owned();
        let (password, port) = (read("superuser-password"), read("port"));
        Session::open(&format!("postgresql://postgres:{password}@127.0.0.1:{port}/{database}"))
    }

    pub fn postmaster_pid(&self) -> i32 {
        number_in(&self.data_dir().join("pgdata/postmaster.pid")).unwrap()
    }

    /// The processes of this directory.
    pub fn processes(&self) -> Vec<String> {
        processes_in(&self.path)
    }

    /// The command lines of the processes in this directory and of their descendants.
    pub fn command_lines(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut queue: Vec<String> = self
            .processes()
            .iter()
            .filter_map(|line| Some(line.strip_prefix("/proc/")?.split(' ').next()?.to_owned()))
            .collect();
        while let Some(pid) = queue.pop() {
            // The process may have ended.
            let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            queue.extend(children.split_whitespace().map(str::to_owned));
        }
        found
    }

    #[track_caller]
    pub fn until_nothing_runs(&self) {
        until("nothing runs in the data directory", || {
            let processes = self.processes();
            if processes.is_empty() { Ok(()) } else { Err(format!("{processes:#?}")) }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        keep_log("postgres", &self.data_dir().join("server.log"));
        // The supervisor stops the server at the first SIGTERM and ends at the second.
        for (file, which) in [
            ("supervisor.lock", Signal::SIGTERM),
            ("supervisor.lock", Signal::SIGTERM),
            ("pgdata/postmaster.pid", Signal::SIGQUIT),
        ] {
            signal_if_in(&self.path, &self.data_dir().join(file), which);
        }
        if std::thread::panicking() {
            let kept = self.directory.take().map(TempDir::keep);
            println!("the logs and the data of this test are in {}", kept.unwrap_or_default().display());
        }
    }
}

/// A unique pool name.
pub fn pool_name(what: &str) -> String {
    format!("{what}_{}", &uuid::Uuid::new_v4().simple().to_string()[..6])
}
