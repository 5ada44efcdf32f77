//! A client with a short TTL that renews in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgdibs::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::stage::Stage;
use crate::wait::until;

/// Renews every third of its TTL until its release.
pub struct Renewer {
    api: Api,
    path: String,
    stop: Arc<AtomicBool>,
    renewed: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Renewer {
    /// Acquires a lease of that many seconds. Without sessions, only renewals keep it live.
    #[track_caller]
    pub fn start(stage: &Stage, ttl_seconds: u64) -> Self {
        let acquire_request = json!({"pool": stage.pool, "fingerprint": "first", "holder": "renewing holder", "ttl_seconds": ttl_seconds, "wait_seconds": 30});
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
                    // The contract asks clients to renew every third of the TTL.
                    std::thread::sleep(pause);
                }
            }
        });
        Self { api, path, stop, renewed, thread: Some(thread) }
    }

    #[track_caller]
    pub fn assert_live(&self) {
        let before = self.renewed.load(Ordering::Relaxed);
        until("a renewal succeeds", || {
            assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "the renewer ended");
            if self.renewed.load(Ordering::Relaxed) > before { Ok(()) } else { Err(String::new()) }
        });
        let seen: Value = self.api.get(&self.path).expect(200);
        assert_eq!(seen["state"], "live", "{seen}");
    }

    /// Ends the lease, which must be live until then.
    #[track_caller]
    pub fn release(mut self) {
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
