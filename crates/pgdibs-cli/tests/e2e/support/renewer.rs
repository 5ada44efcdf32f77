//! A client with a short time to live that renews in time, as far as it is let.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgdibs::Method;
use serde_json::{Value, json};

use super::{Api, Stage, until};

/// Renews at a third of its time to live, from its first breath to its release.
pub(crate) struct Renewer {
    api: Api,
    path: String,
    stop: Arc<AtomicBool>,
    renewed: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Renewer {
    /// Takes a lease of that many seconds. Nobody is connected to it, so nothing but renewals keeps it.
    #[track_caller]
    pub(crate) fn start(stage: &Stage, ttl_seconds: u64) -> Self {
        let acquire_request = json!({"pool": stage.pool, "fingerprint": "first", "holder": "somebody who renews", "ttl_seconds": ttl_seconds, "wait_seconds": 30});
        let lease = stage.api.lease(&acquire_request);
        let path = format!("/v1/leases/{}", lease["id"].as_str().unwrap());
        let (stop, renewed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (api, pause) = (stage.api.clone(), Duration::from_millis(ttl_seconds * 1000 / 3));
        let thread = std::thread::spawn({
            let (api, path, stop, renewed) =
                (api.clone(), format!("{path}/renew"), Arc::clone(&stop), Arc::clone(&renewed));
            move || {
                let mut last = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    match api.try_call(Method::POST, &path, Some(&json!({}))) {
                        Ok(answer) if answer.status == 200 => {
                            renewed.fetch_add(1, Ordering::Relaxed);
                            last = Instant::now();
                        }
                        Ok(answer) if answer.retry_after.is_some() => {}
                        Ok(answer) => panic!("{:?} after its last renewal: {}", last.elapsed(), answer.body),
                        Err(_) => {}
                    }
                    // A third of the time to live is the client's pace, by contract.
                    std::thread::sleep(pause);
                }
            }
        });
        Self { api, path, stop, renewed, thread: Some(thread) }
    }

    #[track_caller]
    pub(crate) fn assert_live(&self) {
        let before = self.renewed.load(Ordering::Relaxed);
        until("a renewal is taken", || {
            assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "the renewer gave up");
            if self.renewed.load(Ordering::Relaxed) > before { Ok(()) } else { Err(String::new()) }
        });
        let seen: Value = self.api.get(&self.path).expect(200);
        assert_eq!(seen["state"], "live", "{seen}");
    }

    /// Ends the lease, which must be live until then.
    #[track_caller]
    pub(crate) fn release(mut self) {
        self.assert_live();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        assert_eq!(self.api.delete(&self.path).status, 204);
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
