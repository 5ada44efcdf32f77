//! Where Postgres's client programs are.

use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The client programs for one server.
pub(super) struct ClientPrograms {
    /// Where the server's own programs are, if that is known.
    bin_dir: Option<PathBuf>,
}

impl ClientPrograms {
    pub(super) fn new(bin_dir: Option<PathBuf>) -> Self {
        Self { bin_dir }
    }

    /// Where psql is, for sources that are SQL files.
    pub(super) fn psql(&self) -> PathBuf {
        self.program("psql")
    }

    /// Where pg_dump is, for sources that are databases.
    pub(super) fn pg_dump(&self) -> PathBuf {
        self.program("pg_dump")
    }

    /// Beside the server's own programs, where `pg_config` says, or on PATH.
    fn program(&self, name: &str) -> PathBuf {
        let beside = self.bin_dir.as_ref().map(|dir| dir.join(name)).filter(|path| path.exists());
        beside.or_else(|| bin_dir_of_pg_config().map(|dir| dir.join(name)).filter(|path| path.exists())).unwrap_or_else(
            || {
                let debian = Path::new("/usr/lib/postgresql");
                newest_in(debian, name).unwrap_or_else(|| PathBuf::from(name))
            },
        )
    }
}

fn bin_dir_of_pg_config() -> Option<PathBuf> {
    let output = std::process::Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

fn newest_in(root: &Path, program: &str) -> Option<PathBuf> {
    let majors = std::fs::read_dir(root).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let major: u32 = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path().join("bin").join(program);
        path.exists().then_some((major, path))
    });
    majors.max().map(|(_, path)| path)
}
