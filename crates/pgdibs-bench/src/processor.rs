//! The processor time of the benchmark's daemon and server, from `/proc`; it depends little on other load of the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Processor time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) daemon: Duration,
    /// Zero for a given server, whose processes may be on another machine.
    pub(crate) server: Duration,
}

/// Reads the processor time of a daemon and its server.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    daemon: u32,
    postmaster_file: Option<PathBuf>,
}

impl Meter {
    /// A meter for the daemon with this process id and the server in this directory of the benchmark's own.
    pub(crate) fn new(daemon: u32, data_dir: Option<&Path>) -> Self {
        Self { daemon, postmaster_file: data_dir.map(|directory| directory.join("pgdata/postmaster.pid")) }
    }

    pub(crate) fn sees_server(&self) -> bool {
        self.postmaster_file.is_some()
    }

    /// The daemon's resident memory; `None` where there is no `/proc`.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    }

    /// The time that both have used since their start; `None` where there is no `/proc`. It includes backends that have exited, which the
    /// postmaster has reaped.
    pub(crate) fn read(&self) -> Option<Used> {
        let per_second = ticks_per_second()?;
        let duration = |ticks: u64| Duration::from_millis(ticks * 1000 / per_second);
        let server = self.postmaster_file.as_deref().map_or(Some(0), ticks_of_server)?;
        Some(Used { daemon: duration(Stat::of(self.daemon)?.own), server: duration(server) })
    }

    /// The time since an earlier reading.
    pub(crate) fn since(&self, before: Option<Used>) -> Option<Used> {
        let (now, before) = (self.read()?, before?);
        Some(Used { daemon: now.daemon.checked_sub(before.daemon)?, server: now.server.checked_sub(before.server)? })
    }
}

fn ticks_of_server(postmaster_file: &Path) -> Option<u64> {
    let file = std::fs::read_to_string(postmaster_file).ok()?;
    let postmaster: u32 = file.lines().next()?.trim().parse().ok()?;
    let server = Stat::of(postmaster)?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let backends = pids.filter_map(Stat::of).filter(|stat| stat.parent == postmaster);
    Some(server.own + server.of_children + backends.map(|stat| stat.own).sum::<u64>())
}

fn ticks_per_second() -> Option<u64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    u64::try_from(ticks).ok()
}

/// The used fields of `/proc/<pid>/stat` (proc(5)); times in clock ticks.
struct Stat {
    parent: u32,
    own: u64,
    of_children: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain blanks.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: BTreeMap<usize, u64> = rest
            .split_whitespace()
            .enumerate()
            .filter_map(|(index, field)| Some((index, field.parse().ok()?)))
            .collect();
        let field = |number: usize| fields.get(&(number - 3)).copied();
        Some(Self {
            parent: u32::try_from(field(4)?).ok()?,
            own: field(14)? + field(15)?,
            of_children: field(16)? + field(17)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_has_parent_and_processor_time() {
        let own = Stat::of(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!(Stat::of(u32::MAX).is_none());
        let before = own.own;
        while Stat::of(std::process::id()).unwrap().own == before {
            std::hint::black_box((0..10_000).sum::<u64>());
        }
    }
}
