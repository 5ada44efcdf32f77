//! Many slow senders against the program with its real timeouts. It takes as long as those, so `make test` omits it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use pgdibs_testing::end_to_end::{Place, pool_name};

/// Connections per kind; both ends are open files of a process.
const SLOW: usize = 500;

/// A connection with the start of a request, which then sends single bytes.
fn begun(host: &str, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Whether the daemon has closed it, with or without an answer.
fn is_cut_off(stream: &mut TcpStream) -> bool {
    let mut some = [0; 2048];
    match stream.read(&mut some) {
        Ok(0) => true,
        // An error answer; the next read returns its end.
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn thousand_slow_senders_delay_no_other_for_ten_seconds() {
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
    pgdibs_testing::end_to_end::until("most of them are connected at once", || {
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
        // A pause between bytes; a tighter loop would take the processor from the daemon.
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = began.elapsed();
    println!(
        "{cycles} leases during the test, the slowest in {slowest:?}; the last slow sender was closed after {took:?}"
    );
    assert!(took >= Duration::from_secs(9), "they were closed before their timeout: {took:?}");
    assert!(cycles >= 20 && slowest < Duration::from_secs(10), "{cycles} {slowest:?}");
    pgdibs_testing::end_to_end::until("their files are closed", || {
        let now = files();
        if now <= before + 10 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
    });
    daemon.stop();
}
