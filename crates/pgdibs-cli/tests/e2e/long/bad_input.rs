//! Hostile HTTP requests: each gets an error message, and the daemon continues.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use pgdibs::Method;
use serde_json::{Value, json};

use pgdibs_testing::end_to_end::{Api, Place, Session, pool_name};

fn raw(api: &Api, request: &str) -> String {
    let mut stream = TcpStream::connect(api.url().trim_start_matches("http://")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn hostile_names(api: &Api) {
    let long = "a".repeat(64);
    let names = [
        "Quoted%22name",
        "UPPER",
        "%C3%BCmlaut",
        &long,
        "1abc",
        "a-b",
        "a%20b",
        "a%27%3B%20drop%20table%20x",
        "%00",
        "a.b",
    ];
    for name in names {
        let answer = api.put(&format!("/v1/pools/{name}"), &json!({}));
        let detail = answer.refused(400, "invalid_request");
        assert!(detail.contains("pool"), "{name}: {detail}");
    }
    for name in ["pgdibs", "template0", "template1", "postgres"] {
        let answer = api.put(&format!("/v1/pools/{name}"), &json!({}));
        assert!(matches!(answer.status, 200 | 201 | 400 | 409), "{name}: {}", answer.body);
        if answer.status == 201 {
            assert_eq!(api.delete(&format!("/v1/pools/{name}")).status, 204);
        }
    }
}

fn hostile_fingerprints(api: &Api, pool: &str) {
    let fine = ["'; drop table templates; --", "../../etc/passwd", "ünïcode \u{1F418}", "a/b?c=d#e", "%s%n"];
    for fingerprint in fine {
        let encoded: String = fingerprint.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/v1/pools/{pool}/templates/{encoded}");
        let build = api.put(&path, &json!({"wait_seconds": 0}));
        if build.status != 201 {
            build.refused(400, "invalid_request");
            continue;
        }
        let build = build.expect(201);
        assert_eq!(build["fingerprint"], fingerprint);
        let token = json!({"token": build["build"]["token"], "detail": "not needed"});
        assert_eq!(api.post(&format!("{path}/abandon"), &token).status, 204);
    }
    let path = format!("/v1/pools/{pool}/templates/{}", "f".repeat(201));
    assert!(api.put(&path, &json!({})).refused(400, "invalid_request").contains("fingerprint"));
    let acquire_request = json!({"pool": pool, "fingerprint": "a\u{0}b"});
    assert!(api.post("/v1/leases", &acquire_request).refused(400, "invalid_request").contains("fingerprint"));
}

fn wrong_bodies(api: &Api, pool: &str) {
    let cases: [(Value, &str); 12] = [
        (json!({"pool": pool, "ttl_seconds": 0}), "ttl_seconds"),
        (json!({"pool": pool, "ttl_seconds": 1_000_000_000_000_u64}), "ttl_seconds"),
        (json!({"pool": pool, "ttl_seconds": -1}), "ttl_seconds"),
        (json!({"pool": pool, "ttl_seconds": "soon"}), "ttl_seconds"),
        (json!({"pool": pool, "wait_seconds": 601}), "wait_seconds"),
        (json!({"pool": pool, "wait_seconds": 1e300}), "wait_seconds"),
        (json!({"pool": pool, "tll_seconds": 5}), "tll_seconds"),
        (json!({"pool": "Quoted\"name"}), "pool"),
        (json!({"pool": pool, "holder": "h".repeat(20_000)}), "holder"),
        (json!({"pool": pool, "worker": ""}), "worker"),
        (json!({"pool": pool, "via": "nowhere"}), "via"),
        (json!({}), "pool"),
    ];
    for (body, field) in cases {
        let detail = api.post("/v1/leases", &body).refused(400, "invalid_request");
        assert!(detail.contains(field), "{body}: {detail}");
    }
    let detail = api.put(&format!("/v1/pools/{pool}"), &json!({"warm": 5, "max": 2})).refused(400, "invalid_request");
    assert!(detail.contains("warm"), "{detail}");
    api.post("/v1/leases/not-a-uuid/renew", &json!({})).refused(404, "lease_not_found");
    let unknown = uuid::Uuid::new_v4();
    api.post(&format!("/v1/leases/{unknown}/reset"), &json!({})).refused(404, "lease_not_found");
    api.post("/v1/leases", &json!({"pool": "unknown_pool"})).refused(404, "pool_not_found");
    api.delete("/v1/databases/postgres").refused(404, "database_not_found");
    api.get("/v1/nothing").refused(404, "not_found");
    api.call(Method::PATCH, "/v1/pools", None).refused(405, "method_not_allowed");
    let body = json!({"pool": pool, "holder": "h".repeat(10_000_000)});
    // The daemon may answer and close before it has read the body; a client that still writes may get a reset.
    if let Ok(answer) = api.try_call(Method::POST, "/v1/leases", Some(&body)) {
        answer.refused(413, "body_too_large");
    }
}

fn wrong_requests(api: &Api, pool: &str) {
    let body = format!("{{\"pool\":\"{pool}\"}}");
    let length = body.len();
    let host = api.url().trim_start_matches("http://").to_owned();
    let post = |headers: &str| {
        raw(
            api,
            &format!(
                "POST /v1/leases HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            ),
        )
    };
    let answer = post("Content-Type: application/json\r\nOrigin: http://evil.example\r\n");
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("forbidden_origin"), "{answer}");
    let answer = post("Content-Type: text/plain\r\n");
    assert!(answer.starts_with("HTTP/1.1 415") && answer.contains("unsupported_media_type"), "{answer}");
    let answer = raw(api, "GET /v1/pools HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 421") && answer.contains("host_not_allowed"), "{answer}");
    let answer = raw(api, "GET /livez HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = raw(api, "COMPLETE NONSENSE\r\n\r\n");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
}

/// Oversized requests: each is rejected fast, and the daemon's memory does not grow.
fn oversized(api: &Api, pid: i32) {
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = memory();
    let host = api.url().trim_start_matches("http://").to_owned();
    let headers: String = (0..1000).map(|number| format!("X-H{number}: x\r\n")).collect();
    let json = "Content-Type: application/json\r\n";
    let post = |more: &str, body: &str| {
        format!(
            "POST /v1/leases HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n{body}",
            body.len()
        )
    };
    let deep = format!("{{\"pool\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    // hyper checks the size of an incomplete header after a read, so slightly more than its limit passes.
    let long = "x".repeat(300_000);
    let cases = [
        ("a thousand headers", format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"), &["431"][..]),
        ("a header of 300 kB", format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nX: {long}\r\n\r\n"), &["431"]),
        ("a path of 300 kB", format!("GET /{long} HTTP/1.1\r\nHost: {host}\r\n\r\n"), &["414", "431"]),
        ("ten thousand brackets", post(json, &deep), &["400"]),
        ("a name of 60 kB", post(json, &format!("{{\"pool\":\"a\",\"{}\":1}}", &long[..60_000])), &["400"]),
        ("a body that is zipped", post(&format!("{json}Content-Encoding: gzip\r\n"), "\u{1f}\u{8b}"), &["415"]),
        (
            "a chunk without an end",
            format!(
                "POST /v1/leases HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{json}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n{}",
                "x".repeat(17 << 20)
            ),
            &["413"],
        ),
    ];
    for (what, request, statuses) in cases {
        let began = std::time::Instant::now();
        let answer = answer_of(api, &request);
        assert!(statuses.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} "))), "{what}: {answer}");
        assert!(answer.len() < 4000, "{what}: the answer has {} bytes", answer.len());
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{what}: {:?}", began.elapsed());
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 10_000, "the daemon grew by {grown} kB");
}

/// The answer, which may come before the end of the request.
fn answer_of(api: &Api, request: &str) -> String {
    let mut stream = TcpStream::connect(api.url().trim_start_matches("http://")).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let bytes = request.as_bytes().to_vec();
    let writing = std::thread::spawn(move || writer.write_all(&bytes).is_ok());
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    // A client that continues to write after the answer gets a reset.
    while let Ok(count) = stream.read(&mut some)
        && count > 0
    {
        answer.extend_from_slice(&some[..count]);
    }
    drop(stream);
    let _reset_or_not = writing.join().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Clients that disconnect during their request leave no open transaction on a shared connection, no lease and no ticket.
fn hung_up(api: &Api, pool: &str) {
    let host = api.url().trim_start_matches("http://").to_owned();
    let body = format!("{{\"pool\":\"{pool}\",\"wait_seconds\":60}}");
    let acquire = format!(
        "POST /v1/leases HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let status = format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for round in 0..60 {
        let mut stream = TcpStream::connect(&host).unwrap();
        stream.write_all(if round % 3 == 0 { acquire.as_bytes() } else { status.as_bytes() }).unwrap();
    }
    // More than the number of shared connections, so that each is used.
    for _ in 0..20 {
        let lease = api.lease(&json!({"pool": pool, "wait_seconds": 60}));
        let id = lease["id"].as_str().unwrap();
        assert_eq!(api.get(&format!("/v1/leases/{id}")).expect(200)["state"], "live");
        api.release(&lease);
    }
    api.until_counts(pool, &json!({"leased": 0, "waiting": 0, "retiring": 0}));
}

#[test]
fn hostile_requests_do_not_harm_the_daemon() {
    let place = Place::new();
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("input");
    // Databases that plain pytest-django leaves under names of the pool.
    let mut boss = place.superuser("postgres");
    boss.run(&format!("create database {pool}_gw0"));
    boss.run(&format!("create database {pool}_gw1"));
    let detail = api.put(&format!("/v1/pools/{pool}"), &json!({})).refused(409, "foreign_databases");
    for number in 0..2 {
        assert!(detail.contains(&format!("dropdb '{pool}_gw{number}'")), "{detail}");
        boss.run(&format!("drop database {pool}_gw{number}"));
    }
    api.make_pool(&pool, &json!({"warm": 2, "max": 4, "spares": 1}), "create table t (n int)");
    hostile_names(&api);
    hostile_fingerprints(&api, &pool);
    wrong_bodies(&api, &pool);
    wrong_requests(&api, &pool);
    oversized(&api, daemon.pid());
    hung_up(&api, &pool);
    let lease = api.lease(&json!({"pool": pool}));
    assert_eq!(Session::of(&lease).text("select count(*) from t"), "0");
    api.release(&lease);
    let log = daemon.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    drop(boss);
    daemon.stop();
    place.until_nothing_runs();
}
