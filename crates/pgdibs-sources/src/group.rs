//! A process group that is terminated, at the latest when its value is dropped.
//!
//! The crate process-wrap does not do this: its `KillOnDrop` kills only the leader, and its `wait` calls `waitpid`, which does not see
//! grandchildren. So `killpg` on drop, and the wait for the last member between SIGTERM and SIGKILL, would remain here.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::Instant;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The interval at which the group's members are checked.
const POLL: Duration = Duration::from_millis(25);

/// The group of a child that leads it.
#[derive(Debug)]
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// The group of a child that was started with `process_group(0)`.
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// Sends SIGTERM, and after [`GRACE`] SIGKILL; returns when no member runs. It reaps the child.
    pub(crate) async fn terminate(&mut self, child: &mut Child) {
        let Some(group) = self.0 else { return };
        let deadline = Instant::now() + GRACE;
        let _ = killpg(group, Signal::SIGTERM);
        // A stopped process handles SIGTERM only after SIGCONT.
        let _ = killpg(group, Signal::SIGCONT);
        while Instant::now() < deadline {
            let _ = child.try_wait();
            if !is_running(group) {
                self.0 = None;
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        self.0 = None;
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait().await;
    }
}

impl Drop for Group {
    /// The future was dropped, so there is no grace period.
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Whether a process of the group runs. `killpg` also finds zombies, and in containers process 1 may reap a dead grandchild late or
/// never; `/proc`, where it exists, shows the state of each process.
fn is_running(group: Pid) -> bool {
    if killpg(group, None) == Err(Errno::ESRCH) {
        return false;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    let mut stats = processes
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .peekable();
    if stats.peek().is_none() {
        return true;
    }
    stats.any(|stat| is_running_member(&stat, group))
}

/// Parses `PID (NAME) STATE PARENT GROUP ...`; the name may contain brackets and blanks.
pub(super) fn is_running_member(stat: &str, group: Pid) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = rest.split_whitespace();
    let (state, _, of_group) = (fields.next(), fields.next(), fields.next());
    of_group.and_then(|of_group| of_group.parse().ok()) == Some(group.as_raw()) && !matches!(state, Some("Z" | "X"))
}
