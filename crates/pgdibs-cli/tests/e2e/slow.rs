//! Slow senders in number, against the program with its real bounds. It takes as long as those, so `make test` leaves it out.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Place, pool_name};

/// Of each kind; both ends of each are open files.
const SLOW: usize = 500;

/// A connection that has said something and says no more than a byte now and then.
fn begun(host: &str, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Whether the daemon has closed it, or answered and closed.
fn is_cut_off(stream: &mut TcpStream) -> bool {
    let mut some = [0; 2048];
    match stream.read(&mut some) {
        Ok(0) => true,
        // The refusal of a body; its end comes with the next look.
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn a_thousand_slow_senders_cost_others_nothing_for_ten_seconds() {
    let place = Place::new();
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("slow");
    api.make_pool(&pool, &json!({"warm": 2, "max": 4, "spares": 1}), "create table t (n int)");
    let files = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let before = files();
    let host = api.url().trim_start_matches("http://").to_owned();
    let began = Instant::now();
    let body = format!(
        "POST /v1/leases HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{{"
    );
    let head = format!("GET /v1/pools HTTP/1.1\r\nHost: {host}\r\nX-Slow: ");
    let mut slow: Vec<TcpStream> = (0..SLOW).flat_map(|_| [begun(&host, &head), begun(&host, &body)]).collect();
    crate::support::until("most of them are in at once", || {
        let now = files();
        if now >= before + SLOW { Ok(()) } else { Err(format!("{before} before, {now} now")) }
    });
    let (mut cycles, mut slowest) = (0, Duration::ZERO);
    while !slow.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "{} are still there", slow.len());
        slow.retain_mut(|stream| !is_cut_off(stream) && stream.write_all(b"x").is_ok());
        let cycle = Instant::now();
        let lease = api.lease(&json!({"pool": pool, "wait_seconds": 30}));
        api.release(&lease);
        slowest = slowest.max(cycle.elapsed());
        cycles += 1;
        // A byte now and then; a tighter loop would only take the processor that the daemon needs.
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = began.elapsed();
    println!("{cycles} leases meanwhile, the slowest in {slowest:?}; the last slow sender was cut off after {took:?}");
    assert!(took >= Duration::from_secs(9), "they were given their time: {took:?}");
    assert!(cycles >= 20 && slowest < Duration::from_secs(10), "{cycles} {slowest:?}");
    crate::support::until("their files are closed", || {
        let now = files();
        if now <= before + 10 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
    });
    daemon.stop();
}
