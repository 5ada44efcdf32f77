//! The directory of a test: the daemon's configuration, its logs, and the data of the embedded server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::kept::keep_log;
use super::{Daemon, Session, pgdibs, signal, until};

/// The drop ends all its processes. A failed test keeps the directory.
pub(crate) struct Place {
    directory: Option<TempDir>,
    path: PathBuf,
    server_url: Option<String>,
    daemons: AtomicUsize,
}

impl Place {
    /// For daemons with an embedded server.
    pub(crate) fn new() -> Self {
        // The path of Postgres's socket must fit into 107 bytes.
        let directory = tempfile::Builder::new().prefix("pgd-").tempdir_in("/tmp").unwrap();
        // If root runs the tests, the server's user needs access to its data.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let path = directory.path().to_owned();
        Self { directory: Some(directory), path, server_url: None, daemons: AtomicUsize::new(0) }
    }

    /// For daemons on a given server.
    pub(crate) fn on(server_url: &str) -> Self {
        let mut place = Self::new();
        place.server_url = Some(server_url.to_owned());
        place
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory of the embedded server.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes a file; `pgdibs.toml` is the configuration of the next daemon.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The program with this place's configuration.
    pub(crate) fn program(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
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

    pub(crate) fn next_log(&self) -> PathBuf {
        self.path.join(format!("daemon-{}.log", self.daemons.fetch_add(1, Ordering::Relaxed)))
    }

    /// A daemon whose server may still be starting.
    #[track_caller]
    pub(crate) fn start(&self, variables: &[(&str, &str)]) -> Daemon {
        Daemon::start(self.program(&["serve"], variables), &self.next_log())
    }

    /// A daemon that is ready.
    #[track_caller]
    pub(crate) fn daemon(&self, variables: &[(&str, &str)]) -> Daemon {
        let mut daemon = self.start(variables);
        daemon.until_ready();
        daemon
    }

    /// The embedded server's superuser.
    #[track_caller]
    pub(crate) fn superuser(&self, database: &str) -> Session {
        let read = |name: &str| std::fs::read_to_string(self.data_dir().join(name)).unwrap().trim().to_owned();
        let (password, port) = (read("superuser-password"), read("port"));
        Session::open(&format!("postgresql://postgres:{password}@127.0.0.1:{port}/{database}"))
    }

    pub(crate) fn postmaster_pid(&self) -> i32 {
        number_in(&self.data_dir().join("pgdata/postmaster.pid")).unwrap()
    }

    /// All processes with this directory in their command line or as working directory.
    pub(crate) fn processes(&self) -> Vec<String> {
        let needle = self.path.display().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path();
            path.file_name()?.to_str()?.parse::<i32>().ok()?;
            let line = String::from_utf8_lossy(&std::fs::read(path.join("cmdline")).ok()?).replace('\0', " ");
            let cwd = std::fs::read_link(path.join("cwd")).unwrap_or_default().display().to_string();
            (line.contains(&needle) || cwd.contains(&needle)).then(|| format!("{} {line} in {cwd}", path.display()))
        });
        processes.collect()
    }

    /// The command lines of the processes in this directory and of their descendants.
    pub(crate) fn command_lines(&self) -> Vec<String> {
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
    pub(crate) fn until_nothing_runs(&self) {
        until("nothing runs in the data directory", || {
            let processes = self.processes();
            if processes.is_empty() { Ok(()) } else { Err(format!("{processes:#?}")) }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        keep_log("postgres", &self.data_dir().join("server.log"));
        for (file, signals) in [
            ("supervisor.lock", &[Signal::SIGTERM, Signal::SIGTERM][..]),
            ("pgdata/postmaster.pid", &[Signal::SIGQUIT][..]),
        ] {
            let pid = number_in(&self.data_dir().join(file));
            // Only a process of this directory: the pid may belong to another process by now.
            let is_own = |pid: &i32| self.processes().iter().any(|line| line.starts_with(&format!("/proc/{pid} ")));
            for &which in signals {
                if let Some(pid) = pid.filter(is_own) {
                    signal(pid, which);
                }
            }
        }
        if std::thread::panicking() {
            let kept = self.directory.take().map(TempDir::keep);
            println!("the logs and the data of this test are in {}", kept.unwrap_or_default().display());
        }
    }
}

fn number_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.lines().next()?.trim().parse().ok()
}
