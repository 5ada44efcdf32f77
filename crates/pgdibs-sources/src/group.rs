//! A process group that is ended, politely if there is time, at the latest when its value goes.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::Instant;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at whether a group is gone.
const LOOK: Duration = Duration::from_millis(25);

/// The group that a child leads.
#[derive(Debug)]
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// Of a child that was started with a group of its own.
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// SIGTERM, then SIGKILL for what is left after the grace; returns when nothing is left. The child is reaped on the way.
    pub(crate) async fn end(&mut self, child: &mut Child) {
        let Some(group) = self.0 else { return };
        let until = Instant::now() + GRACE;
        let _ = killpg(group, Signal::SIGTERM);
        // A stopped process takes no SIGTERM before it goes on.
        let _ = killpg(group, Signal::SIGCONT);
        while Instant::now() < until {
            let _ = child.try_wait();
            if !lives(group) {
                self.0 = None;
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.0 = None;
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait().await;
    }
}

impl Drop for Group {
    /// The future was dropped, so nobody is left to wait out a grace.
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Whether a process of the group still runs. To the signal a dead grandchild counts as there until process 1 reaps it, which in
/// containers may take seconds or for ever; where there is a `/proc`, it tells the dead from the living.
fn lives(group: Pid) -> bool {
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
    stats.any(|stat| is_living_member(&stat, group))
}

/// `PID (NAME) STATE PARENT GROUP ...`; the name may hold anything, brackets and blanks included.
pub(super) fn is_living_member(stat: &str, group: Pid) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = rest.split_whitespace();
    let (state, _, of_group) = (fields.next(), fields.next(), fields.next());
    of_group.and_then(|of_group| of_group.parse().ok()) == Some(group.as_raw()) && !matches!(state, Some("Z" | "X"))
}
