//! Failpoints: stops or kills the daemon at a place that a test has named.
//!
//! Compiled in by feature `armed` only, which the end-to-end tests turn on and no release does (a rule of the lint and the wheel's
//! script check it). Without it [`reach`] does nothing. `PGDIBS_TEST_FAILPOINT` says what is to happen, once, in the process
//! that reads it: `clone:created=kill`, `clone:created@3=kill` at the third time, or `clone:created=hold:/some/file`, which creates the
//! file and continues when the test has removed it.

pub use pgdibs_core::failpoint::Point;

/// Nothing, in a build without failpoints.
#[cfg(not(feature = "armed"))]
#[inline]
pub async fn reach(_: Point) {}

/// Nothing, in a build without failpoints.
#[cfg(not(feature = "armed"))]
#[inline]
pub fn reach_at_once(_: Point) {}

#[cfg(feature = "armed")]
pub use armed::{reach, reach_at_once};

#[cfg(feature = "armed")]
mod armed {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};

    use pgdibs_core::failpoint::Point;

    /// What is to happen, and where.
    struct Armed {
        point: &'static str,
        /// Times it is still to be passed.
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
            // A test that arms a point that does not exist would wait for it for ever.
            Some(
                parse(&text)
                    .unwrap_or_else(|| panic!("PGDIBS_TEST_FAILPOINT: `{text}` is no POINT[@N]=kill|hold:FILE")),
            )
        };
        ARMED.get_or_init(read).as_ref()
    }

    fn parse(text: &str) -> Option<Armed> {
        let (place, action) = text.split_once('=')?;
        let (name, time) = place.split_once('@').unwrap_or((place, "1"));
        let point = Point::ALL.iter().find(|point| point.name() == name)?.name();
        let action = match action.split_once(':') {
            None if action == "kill" => Action::Kill,
            Some(("hold", file)) => Action::Hold(file.into()),
            _ => return None,
        };
        Some(Armed { point, left: AtomicUsize::new(time.parse().ok()?), action })
    }

    /// Dies, if that is due here; otherwise the file whose removal is to be waited for, if one is.
    fn held_by(point: Point) -> Option<&'static Path> {
        let armed = armed().filter(|armed| armed.point == point.name())?;
        let before = armed.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match &armed.action {
            _ if before != Ok(1) => None,
            Action::Kill => die(),
            Action::Hold(file) => {
                // Without the file nobody would know that we are here, and a test with a deadline says so.
                let _made = std::fs::write(file, point.name());
                Some(file)
            }
        }
    }

    /// Does what is due at this point, if anything is.
    pub async fn reach(point: Point) {
        if let Some(file) = held_by(point) {
            while file.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// The same where nothing can be awaited: a hold keeps the thread.
    pub fn reach_at_once(point: Point) {
        if let Some(file) = held_by(point) {
            while file.exists() {
                // In a test's daemon, which has other threads.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// As `kill -9` by somebody else: nothing is unwound, flushed or said.
    fn die() -> ! {
        let _sent = raise(Signal::SIGKILL);
        // The signal has ended us by now.
        std::process::abort()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_cannot_be_armed_is_none() {
            assert!(parse("start:listening=kill").is_some());
            let third = parse("start:listening@3=hold:/tmp/x");
            assert_eq!(third.map(|armed| armed.left.into_inner()), Some(3));
            for text in ["start:nowhere=kill", "start:listening=stop", "start:listening", "start:listening@x=kill"] {
                assert!(parse(text).is_none(), "{text}");
            }
        }
    }
}
