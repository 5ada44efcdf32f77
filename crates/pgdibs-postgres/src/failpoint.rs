//! Failpoints: named places between two steps, at which a test kills the daemon or holds it.
//!
//! Compiled in by feature `failpoints` only, which the tests of `crates/pgdibs` turn on and no release does (a tidy rule and the
//! wheel's script see to it). Without it [`reach`] is nothing. `PGDIBS_TEST_FAILPOINT` says what is to happen, once, in the process
//! that reads it: `clone:created=kill`, `clone:created@3=kill` at the third time, or `clone:created=hold:/some/file`, which makes the
//! file and goes on when somebody has removed it.

macro_rules! points {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// A place between two steps. The loop of the fault tests goes through [`Point::ALL`], so none can be forgotten.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "their names say where they are")]
        pub enum Point {
            $($variant),*
        }

        #[cfg(feature = "failpoints")]
        impl Point {
            /// Every point, in the order of the lives they are in.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Where it is, as `what:when`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

points! {
    // The start, before anything is planned.
    StartListening = "start:listening",
    StartConnected = "start:connected",
    StartCatalogMade = "start:catalog-made",
    StartMigrated = "start:migrated",
    StartPoolsMade = "start:pools-made",
    StartServing = "start:serving",
    StartElected = "start:elected",
    StartPredecessorsEnded = "start:predecessors-ended",
    StartAsLeader = "start:as-leader",
    LookSwept = "look:swept",
    LookPlanned = "look:planned",
    // A template's life.
    BuildAsked = "build:asked",
    BuildRolesMade = "build:roles-made",
    BuildLoginMade = "build:login-made",
    BuildCreated = "build:created",
    BuildPrepared = "build:prepared",
    BuildNoted = "build:noted",
    BuildLost = "build:lost",
    SealAsked = "seal:asked",
    SealFenced = "seal:fenced",
    SealTidied = "seal:tidied",
    SealClosed = "seal:closed",
    SealRenamed = "seal:renamed",
    SealPublished = "seal:published",
    TemplateRetired = "template:retired",
    TemplateClosed = "template:closed",
    TemplateDropped = "template:dropped",
    // A database's life.
    CloneOrdering = "clone:ordering",
    CloneOrdered = "clone:ordered",
    CloneLoginMade = "clone:login-made",
    CloneCreated = "clone:created",
    CloneDressed = "clone:dressed",
    CloneDone = "clone:done",
    AdoptNoted = "adopt:noted",
    FillRenamed = "fill:renamed",
    FillDone = "fill:done",
    ReturnClosed = "return:closed",
    ReturnFenced = "return:fenced",
    ReturnRenamed = "return:renamed",
    ReturnDone = "return:done",
    RetireMarked = "retire:marked",
    ForgetClosed = "forget:closed",
    DropClosed = "drop:closed",
    DropFenced = "drop:fenced",
    DropDone = "drop:done",
    DropLoginsDropped = "drop:logins-dropped",
    DropForgotten = "drop:forgotten",
    // A lease's life.
    AcquireWaiting = "acquire:waiting",
    AcquireHalfOfBatch = "acquire:half-of-batch",
    AcquireTaken = "acquire:taken",
    AcquireGranted = "acquire:granted",
    AcquireAnswering = "acquire:answering",
    AcquireLastByte = "acquire:last-byte",
    KeepPromised = "keep:promised",
    ResetReserved = "reset:reserved",
    ResetClosed = "reset:closed",
    ResetFenced = "reset:fenced",
    ResetRenamed = "reset:renamed",
    ResetDone = "reset:done",
    ReleaseMarked = "release:marked",
    ReleaseAnswering = "release:answering",
    RunEnded = "run:ended",
    ExpireMarked = "expire:marked",
}

/// Nothing, in a build without failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub async fn reach(_: Point) {}

/// Nothing, in a build without failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach_at_once(_: Point) {}

#[cfg(feature = "failpoints")]
pub use armed::{reach, reach_at_once};

#[cfg(feature = "failpoints")]
mod armed {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};

    use super::Point;

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
        fn points_have_names_of_their_own() {
            let mut names: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), Point::ALL.len());
        }

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
