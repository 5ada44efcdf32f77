//! Failpoints: a test kills or holds the daemon at a named place.
//!
//! Only the feature `armed` compiles them in; the end-to-end tests enable it and no release does (the lint and the wheel's script
//! check this). Without it [`reach`] does nothing. The environment variable `PGDIBS_TEST_FAILPOINT` arms one failpoint, once per
//! process: `clone:created=kill`, `clone:created@3=kill` at the third pass, or `clone:created=hold:/some/file`, which creates the
//! file and continues after the test has removed it.

pub use pgdibs_core::failpoint::Failpoint;

/// Does nothing in a build without failpoints.
#[cfg(not(feature = "armed"))]
#[inline]
pub async fn reach(_: Failpoint) {}

/// Does nothing in a build without failpoints.
#[cfg(not(feature = "armed"))]
#[inline]
pub fn reach_at_once(_: Failpoint) {}

#[cfg(feature = "armed")]
pub use armed::{reach, reach_at_once};

#[cfg(feature = "armed")]
mod armed {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};

    use pgdibs_core::failpoint::Failpoint;

    struct Armed {
        point: &'static str,
        /// Passes until the action.
        left: AtomicUsize,
        action: Action,
    }

    enum Action {
        Kill,
        Hold(PathBuf),
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let text = std::env::var("PGDIBS_TEST_FAILPOINT").ok().filter(|text| !text.is_empty())?;
            // A test with a misspelt failpoint would wait for ever.
            Some(
                parse(&text)
                    .unwrap_or_else(|| panic!("PGDIBS_TEST_FAILPOINT: `{text}` is not POINT[@N]=kill|hold:FILE")),
            )
        };
        ARMED.get_or_init(read).as_ref()
    }

    fn parse(text: &str) -> Option<Armed> {
        let (place, action) = text.split_once('=')?;
        let (name, time) = place.split_once('@').unwrap_or((place, "1"));
        let point = Failpoint::ALL.iter().find(|point| point.name() == name)?.name();
        let action = match action.split_once(':') {
            None if action == "kill" => Action::Kill,
            Some(("hold", file)) => Action::Hold(file.into()),
            _ => return None,
        };
        Some(Armed { point, left: AtomicUsize::new(time.parse().ok()?), action })
    }

    /// Kills the process if the failpoint is armed so; returns the file to wait for if it holds.
    fn held_by(point: Failpoint) -> Option<&'static Path> {
        let armed = armed().filter(|armed| armed.point == point.name())?;
        let before = armed.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match &armed.action {
            _ if before != Ok(1) => None,
            Action::Kill => die(),
            Action::Hold(file) => {
                // If the write fails, the test's wait for the file times out.
                let _made = std::fs::write(file, point.name());
                Some(file)
            }
        }
    }

    /// Runs the action if this failpoint is armed.
    pub async fn reach(point: Failpoint) {
        if let Some(file) = held_by(point) {
            while file.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// The same outside async code: a hold blocks the thread.
    pub fn reach_at_once(point: Failpoint) {
        if let Some(file) = held_by(point) {
            while file.exists() {
                // Only in the daemon of a test, which has other threads.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Like an external `kill -9`: without unwinding, flushing or logging.
    fn die() -> ! {
        let _sent = raise(Signal::SIGKILL);
        // The signal has ended the process.
        std::process::abort()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn parse_rejects_unknown_points_actions_and_counts() {
            assert!(parse("start:listening=kill").is_some());
            let third = parse("start:listening@3=hold:/tmp/x");
            assert_eq!(third.map(|armed| armed.left.into_inner()), Some(3));
            for text in ["start:unknown=kill", "start:listening=stop", "start:listening", "start:listening@x=kill"] {
                assert!(parse(text).is_none(), "{text}");
            }
        }
    }
}
