//! Processor time of the benchmark's daemon and server, as `/proc` tells it: other work on the machine changes it little.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whose time is read.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    daemon: u32,
    postmaster_file: PathBuf,
}

impl Meter {
    /// A meter for the daemon with this process id and the server whose data directory this is.
    pub(crate) fn new(daemon: u32, server_data: &Path) -> Self {
        Self { daemon, postmaster_file: server_data.join("postmaster.pid") }
    }

    /// What both have used since they began; `None` where the system does not say. Backends that have ended count: the postmaster
    /// has waited for them.
    pub(crate) fn read(&self) -> Option<Duration> {
        let file = std::fs::read_to_string(&self.postmaster_file).ok()?;
        let postmaster: u32 = file.lines().next()?.trim().parse().ok()?;
        let mut ticks = Stat::of(self.daemon)?.own;
        let server = Stat::of(postmaster)?;
        ticks += server.own + server.of_waited_for;
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let backends = pids.filter_map(Stat::of).filter(|stat| stat.parent == postmaster);
        ticks += backends.map(|stat| stat.own).sum::<u64>();
        Some(Duration::from_millis(ticks * 1000 / ticks_per_second()?))
    }

    /// What both have used since that reading.
    pub(crate) fn since(&self, before: Option<Duration>) -> Option<Duration> {
        self.read()?.checked_sub(before?)
    }
}

fn ticks_per_second() -> Option<u64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    u64::try_from(ticks).ok()
}

/// What of `/proc/<pid>/stat` is needed (proc(5)), in clock ticks.
struct Stat {
    parent: u32,
    own: u64,
    of_waited_for: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, blanks too.
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
            of_waited_for: field(16)? + field(17)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_parent_and_uses_time() {
        let own = Stat::of(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!(Stat::of(u32::MAX).is_none());
        let before = own.own;
        while Stat::of(std::process::id()).unwrap().own == before {
            std::hint::black_box((0..10_000).sum::<u64>());
        }
    }
}
