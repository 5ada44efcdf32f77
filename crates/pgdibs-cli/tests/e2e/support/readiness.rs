//! Watches `/readyz` through a fault, to see whether it told the truth.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgdibs::Method;

use super::Api;

/// A daemon may take this long to notice that its server has gone: it looks once a second.
const NOTICED: Duration = Duration::from_secs(3);

/// What was answered, and when: the status, or nothing when nobody answered.
pub(crate) struct Readiness(Vec<(Instant, Option<u16>)>);

impl Readiness {
    /// Asks again and again while something happens.
    pub(crate) fn during<T>(api: &Api, work: impl FnOnce() -> T) -> (Self, T) {
        let (stop, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let result = std::thread::scope(|scope| {
            let _stopping = Stop(&stop);
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = api.try_call(Method::GET, "/readyz", None).ok().map(|answer| answer.status);
                    seen.lock().unwrap().push((Instant::now(), answer));
                    // Often enough to see the moments that matter, seldom enough to leave the processor to them.
                    std::thread::sleep(Duration::from_millis(25));
                }
            });
            work()
        });
        (Self(seen.into_inner().unwrap()), result)
    }

    /// While the server was down, nobody who asked was told "ready", but for the moment in which nobody can know.
    #[track_caller]
    pub(crate) fn assert_unready_between(&self, down: Instant, up: Instant) {
        let mut asked = 0;
        for (at, status) in &self.0 {
            if *at > down + NOTICED && *at < up {
                asked += 1;
                assert_ne!(*status, Some(200), "ready {:?} after the server went down", *at - down);
            }
        }
        assert!(asked > 0 || up < down + NOTICED, "nobody asked while the server was down");
    }

    /// When it said "ready" for the first time after a moment.
    pub(crate) fn ready_after(&self, moment: Instant) -> Option<Duration> {
        self.0.iter().find(|(at, status)| *at > moment && *status == Some(200)).map(|(at, _)| *at - moment)
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
