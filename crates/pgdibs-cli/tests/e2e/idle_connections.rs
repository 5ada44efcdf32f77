//! 2,000 idle connections: probes are answered, other requests get a retryable error, and service recovers afterwards.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use pgdibs_testing::end_to_end::program::run;
use pgdibs_testing::end_to_end::{Place, Session, pool_name, until};

/// More connections than the daemon accepts at once.
const IDLE: usize = 2000;
const BEYOND: usize = 200;

/// The default timeout of a kubelet.
const SECOND: Duration = Duration::from_secs(1);

/// This process needs an open file for its end of each connection.
fn raise_file_limit() {
    let needed = (IDLE + BEYOND + 500) as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard >= needed, "this test needs {needed} open files; the hard limit is {hard} (ulimit -Hn)");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard).unwrap();
}

#[test]
fn probes_answer_with_2000_idle_connections() {
    raise_file_limit();
    let place = Place::create();
    let daemon = place.daemon(&[]);
    let api = daemon.api.with_patience(SECOND);
    let pool = pool_name("idle");
    daemon.api.make_pool(&pool, &json!({"warm": 1, "max": 1, "spares": 0}), "create table t (n int)");
    let lease = daemon.api.lease(&json!({"pool": pool}));

    let address = api.url().replace("http://", "");
    let began = Instant::now();
    let idle: Vec<TcpStream> = (0..IDLE + BEYOND).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // The daemon closes idle connections after 10 s; the probes end before.
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
    assert!(daemon.open_files() < IDLE + 192, "{}", daemon.open_files());
    // A lease needs no HTTP connection.
    assert_eq!(Session::of(&lease).text("select count(*) from t"), "0");

    drop(idle);
    until("the daemon serves again", || {
        let answer = daemon.api.get("/v1/status");
        if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
    });
    daemon.api.release(&lease);
    daemon.api.lease(&json!({"pool": pool}));
    daemon.stop();
}
