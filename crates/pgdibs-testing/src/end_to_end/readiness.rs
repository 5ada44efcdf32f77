//! Polls `/readyz` during a fault and checks its answers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgdibs::Method;

use super::api::Api;
use crate::wait::StopOnDrop;

/// How long a daemon may take to detect an outage of its server; it checks once a second.
const DETECTION: Duration = Duration::from_secs(3);

/// The answers with their times: the status, or `None` without an answer.
pub struct Readiness(Vec<(Instant, Option<u16>)>);

impl Readiness {
    /// Polls while `work` runs.
    pub fn during<T>(api: &Api, work: impl FnOnce() -> T) -> (Self, T) {
        let (stop, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let result = std::thread::scope(|scope| {
            let _stopping = StopOnDrop(&stop);
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = api.try_call(Method::GET, "/readyz", None).ok().map(|answer| answer.status);
                    seen.lock().unwrap().push((Instant::now(), answer));
                    // Short compared with an outage, and cheap compared with the load.
                    std::thread::sleep(Duration::from_millis(25));
                }
            });
            work()
        });
        (Self(seen.into_inner().unwrap()), result)
    }

    /// While the server was down, no answer after the detection time was "ready".
    #[track_caller]
    pub fn assert_unready_between(&self, down: Instant, up: Instant) {
        let mut answers = 0;
        for (at, status) in &self.0 {
            if *at > down + DETECTION && *at < up {
                answers += 1;
                assert_ne!(*status, Some(200), "ready {:?} after the server went down", *at - down);
            }
        }
        assert!(answers > 0 || up < down + DETECTION, "no answer while the server was down");
    }

    /// The time from `moment` to the next "ready".
    pub fn ready_after(&self, moment: Instant) -> Option<Duration> {
        self.0.iter().find(|(at, status)| *at > moment && *status == Some(200)).map(|(at, _)| *at - moment)
    }
}
