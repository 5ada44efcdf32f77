//! 2,000 connections: idle ones keep no request out; with slow ones probes are answered, and other requests get a retryable error.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use pgdibs_testing::end_to_end::program::run;
use pgdibs_testing::end_to_end::{Place, Session, pool_name, until};

/// As many connections as the daemon serves at once.
const SERVED: usize = 2000;
const BEYOND: usize = 200;

/// The default timeout of a kubelet.
const SECOND: Duration = Duration::from_secs(1);

/// This process needs an open file for its end of each connection.
fn raise_file_limit() {
    let needed = (SERVED + BEYOND + 500) as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard >= needed, "this test needs {needed} open files; the hard limit is {hard} (ulimit -Hn)");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard).unwrap();
}

fn connections(address: &str, send: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(send).unwrap();
        stream
    };
    (0..SERVED + BEYOND).map(connect).collect()
}

#[test]
fn idle_connections_keep_no_request_out() {
    raise_file_limit();
    let place = Place::create();
    let daemon = place.daemon(&[]);
    let _idle = connections(&daemon.api.url().replace("http://", ""), b"");
    for _ in 0..10 {
        // On a busy machine an idle connection may not close in time; the answer is then a 503 with `Retry-After`.
        until("it is served", || {
            let answer = daemon.api.get("/v1/status");
            if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
        });
    }
    assert!(daemon.open_files() < SERVED + 192, "{}", daemon.open_files());
    daemon.stop();
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[test]
    fn probes_answer_with_2000_slow_connections() {
        raise_file_limit();
        let place = Place::create();
        let daemon = place.daemon(&[]);
        let api = daemon.api.with_patience(SECOND);
        let pool = pool_name("idle");
        daemon.api.make_pool(&pool, &json!({"warm": 1, "max": 1, "spares": 0}), "create table t (n int)");
        let lease = daemon.api.lease(&json!({"pool": pool}));

        let address = api.url().replace("http://", "");
        let began = Instant::now();
        let slow = connections(&address, b"GET /livez HTTP/1.1\r\nHost: loc");
        assert_eq!(daemon.api.get("/livez").status, 200, "it has accepted them");
        // The daemon closes them after 10 s; the probes end before.
        let mut slowest = Duration::ZERO;
        for round in 0..10 {
            for path in ["/livez", "/readyz", "/healthz"] {
                let started = Instant::now();
                assert_eq!(api.get(path).status, 200, "{path} in round {round}");
                slowest = slowest.max(started.elapsed());
            }
            std::thread::scope(|scope| {
                for path in ["/livez", "/readyz"].repeat(8) {
                    let api = &api;
                    scope.spawn(move || assert_eq!(api.get(path).status, 200, "{path} in round {round}"));
                }
            });
            let detail = api.get("/v1/status").refused(503, "machine_busy");
            assert!(detail.contains("2000 connections"), "{detail}");
            api.delete(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).refused(503, "machine_busy");
        }
        let done = run(place.program(&["healthcheck", "--ready"], &[("PGDIBS_URL", &api.url())]));
        assert_eq!(done.code, Some(0), "{done:?}");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(9), "the test was too slow for a result: {took:?}");
        println!("the slowest of the single probes took {slowest:?}, all of it {took:?}");
        assert!(daemon.open_files() < SERVED + 192, "{}", daemon.open_files());
        // A lease needs no HTTP connection.
        assert_eq!(Session::of(&lease).text("select count(*) from t"), "0");

        drop(slow);
        until("the daemon serves again", || {
            let answer = daemon.api.get("/v1/status");
            if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
        });
        daemon.api.release(&lease);
        daemon.api.lease(&json!({"pool": pool}));
        daemon.stop();
    }
}
